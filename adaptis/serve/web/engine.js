// The engine of a page without a server: the network runs in the browser.
//
// It has the interface that the engine.js of `adaptis serve` describes.  The networks and samples
// are listed in web.json, which `adaptis export --web` wrote.  The work is done in worker.js.

export async function createEngine() {
  const answer = await fetch(new URL('web.json', document.baseURI)).catch(() => null);
  if (!answer || !answer.ok) throw new Error('web.json cannot be loaded: reload the page.');
  return new Engine(await answer.json(), new Calls());
}

class Engine {
  #calls;
  #folders;
  #maxSide;

  constructor({ models, maxSide }, calls) {
    const absolute = (path) => new URL(path, document.baseURI).href;
    this.#calls = calls;
    this.#maxSide = maxSide;
    this.#folders = new Map(models.map(({ name, folder }) => [name, absolute(folder)]));
    this.models = models.map(({ folder, samples, ...model }) => ({
      ...model, samples: samples.map((sample) => ({ ...sample, url: absolute(sample.url) })),
    }));
  }

  open(blob, modelName) {
    const folder = this.#folders.get(modelName);
    return this.#calls.make('open', { blob, folder, maxSide: this.#maxSide });
  }

  mask(x, y) {
    return this.#calls.make('mask', { x, y });
  }

  proposals() {
    return this.#calls.make('proposals');
  }

  segment({ onProgress = () => {}, onSegment = () => {}, signal } = {}) {
    const onEvent = ({ progress, segment }) => {
      if (progress) onProgress(...progress);
      if (segment) onSegment(segment);
    };
    return this.#calls.make('segment', {}, { onEvent, signal });
  }

  close() {
    return this.#calls.make('close');
  }
}

// Calls of the worker that wait for their result.
class Calls {
  #worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
  #waiting = new Map();
  #next = 1;

  constructor() {
    this.#worker.onmessage = ({ data }) => this.#answered(data);
    this.#worker.onerror = () => this.#fail('The network cannot be started in this browser.');
  }

  make(method, args = {}, { onEvent = () => {}, signal } = {}) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      this.#waiting.set(id, { resolve, reject, onEvent });
      signal?.addEventListener('abort', () => {
        if (!this.#waiting.delete(id)) return;
        this.#worker.postMessage({ id: this.#next++, method: 'abort', args: { call: id } });
        reject(signal.reason);
      });
      this.#worker.postMessage({ id, method, args });
    });
  }

  #answered({ id, event, result, error }) {
    const call = this.#waiting.get(id);
    if (!call) return;
    if (event) {
      call.onEvent(event);
      return;
    }
    this.#waiting.delete(id);
    if (error) call.reject(new Error(error));
    else call.resolve(result);
  }

  #fail(sentence) {
    for (const { reject } of this.#waiting.values()) reject(new Error(sentence));
    this.#waiting.clear();
  }
}
