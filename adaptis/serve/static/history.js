// The states for undo and redo.  States are never changed, only replaced.

export class History {
  #states;
  #index = 0;

  constructor(first) {
    this.#states = [first];
  }

  get state() {
    return this.#states[this.#index];
  }

  get canUndo() {
    return this.#index > 0;
  }

  get canRedo() {
    return this.#index < this.#states.length - 1;
  }

  // Makes a state the current one; those that were undone are lost.
  add(state) {
    this.#states.splice(this.#index + 1, Infinity, state);
    this.#index++;
  }

  undo() {
    if (this.canUndo) this.#index--;
  }

  redo() {
    if (this.canRedo) this.#index++;
  }
}
