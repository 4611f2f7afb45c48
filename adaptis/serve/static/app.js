// The page.  It uses networks only through the interface that engine.js describes.

import { distinctColor, stuffColor } from './colors.js';
import { download, find, makeButton, makeElement, percent, plural, tell } from './dom.js';
import { createEngine } from './engine.js';
import * as exports from './exports.js';
import { History } from './history.js';
import { decodeMask, resizePixels } from './masks.js';
import { Pointer } from './pointer.js';
import { View } from './view.js';

const STEP = 1;
const LARGE_STEP = 10;
const DIRECTIONS = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
};
const FILE_NAMES = {
  overlay: 'overlay.png', ids: 'ids.png', coco: 'coco.json', labelme: 'json',
  panopticPng: 'panoptic.png', panopticJson: 'panoptic.json',
};
const SAVERS = {
  overlay: exports.overlayPng, ids: exports.idsPng, coco: exports.cocoJson,
  labelme: exports.labelmeJson, panopticPng: exports.panopticPng,
  panopticJson: exports.panopticJson,
};

class Page {
  #engine;
  #view = new View(find('picture'), find('frame'));
  #pointer;
  #picture = null;    // {blob, name, image, width, height, pointProposals}
  #history = new History({ objects: [], stuff: [] });
  #cross = null;
  #selected = null;
  #colors = 0;
  #segmenting = null;  // an AbortController
  #opening = 0;        // counts the chosen images
  #opened = Promise.resolve();
  #busy = false;

  constructor(engine) {
    this.#engine = engine;
    this.#pointer = new Pointer((x, y) => engine.mask(x, y),
                                (found) => this.#preview(found), (error) => this.#fail(error));
    this.#fillModels();
    this.#listen();
    this.#chooseModel();
  }

  // -- networks and images -------------------------------------------------------------------

  get #model() {
    return this.#engine.models.find((model) => model.name === find('model').value);
  }

  #fillModels() {
    find('model').replaceChildren(
      ...this.#engine.models.map((model) => new Option(model.title, model.name)));
    find('model-row').hidden = this.#engine.models.length < 2;
  }

  // Shows the samples of the network; opens the current image with it, or the first sample.
  #chooseModel() {
    const { samples, trainedOn } = this.#model;
    find('trained-on').textContent = trainedOn ? `This network was trained on ${trainedOn}.` : '';
    find('samples').replaceChildren(...samples.map((sample) => this.#sampleItem(sample)));
    if (this.#picture && !this.#picture.sample) this.#open(this.#picture.blob, this.#picture.name);
    else if (samples.length) this.#openSample(samples[0]);
    else this.#say('Upload an image to begin.');
  }

  #sampleItem(sample) {
    const picture = Object.assign(new Image(), { src: sample.url, alt: sample.name });
    const button = makeButton('', () => this.#openSample(sample));
    button.append(picture);
    button.dataset.url = sample.url;
    button.setAttribute('aria-pressed', 'false');
    return makeElement('li', {}, button);
  }

  async #openSample(sample) {
    try {
      const blob = await (await fetch(sample.url)).blob();
      const name = `${this.#model.name} ${sample.name}.png`.toLowerCase().replaceAll(' ', '_');
      await this.#open(blob, name, sample.url);
    } catch (error) {
      this.#fail(error);
    }
  }

  // An engine opens one image at a time; of several waiting ones, only the last is opened.
  #open(blob, name, sample = null) {
    const opening = ++this.#opening;
    this.#opened = this.#opened.then(() => {
      if (opening === this.#opening) return this.#openNow(opening, blob, name, sample);
    });
    return this.#opened;
  }

  async #openNow(opening, blob, name, sample) {
    this.#segmenting?.abort();
    this.#pointer.leave();
    tell('error', '');
    tell('warning', '');
    this.#say('Computing the features of the image …');
    this.#setBusy(true);
    try {
      const opened = await this.#engine.open(blob, this.#model.name);
      const image = await createImageBitmap(blob);
      if (opening !== this.#opening) return;
      this.#picture = { ...opened, blob, name, image, sample };
      this.#show();
    } catch (error) {
      if (opening === this.#opening) this.#fail(error);
    } finally {
      if (opening === this.#opening) this.#setBusy(false);
    }
  }

  // While an image is being opened, the previous one is shown but no longer responds.
  #setBusy(busy) {
    this.#busy = busy;
    find('frame').classList.toggle('busy', busy);
    find('segment').disabled = busy || !this.#picture;
    find('points').disabled = busy || !this.#picture?.pointProposals;
  }

  #show() {
    const { image, name, width, height, sample } = this.#picture;
    this.#history = new History({ objects: [], stuff: [] });
    this.#colors = 0;
    this.#selected = this.#cross = null;
    this.#view.setImage(image, { width, height });
    find('picture').setAttribute('aria-label', `Image ${name}, ${width} by ${height} pixels`);
    find('points').checked = false;
    tell('warning', this.#picture.warning || '');
    for (const button of find('samples').querySelectorAll('button')) {
      button.setAttribute('aria-pressed', String(button.dataset.url === sample));
    }
    this.#update();
    const smaller = image.width === width ? '' : `, processed at ${width}x${height}`;
    this.#say(`${name}: ${image.width}x${image.height} pixels${smaller}. Point at an object.`);
  }

  // -- objects -------------------------------------------------------------------------------

  #preview(found) {
    this.#view.setPreview(found && found.pixels);
    if (!found) return;
    const what = found.name ? `${found.name}, confidence` : 'Confidence';
    this.#say(found.score ? `${what} ${percent(found.score)}.` : 'No object here.');
  }

  async #keep(x, y) {
    const picture = this.#picture;
    if (!picture || this.#busy) return;
    try {
      const found = await this.#pointer.ask(x, y);
      if (picture !== this.#picture) return;
      if (!found.score) {
        this.#say('There is no object here.');
        return;
      }
      const { objects, stuff } = this.#history.state;
      const object = this.#makeObject(found);
      this.#do({ objects: [...objects, object], stuff });
      this.#say(`Kept object ${objects.length + 1}, confidence ${percent(found.score)}.`);
    } catch (error) {
      this.#fail(error);
    }
  }

  #makeObject({ score, name, categoryId, pixels }) {
    return { score, label: name || 'object', categoryId: categoryId ?? 1, isthing: true, pixels,
             color: distinctColor(this.#colors++) };
  }

  #delete(object) {
    const { objects, stuff } = this.#history.state;
    if (!objects.includes(object)) return;
    const number = objects.indexOf(object) + 1;
    this.#do({ objects: objects.filter((other) => other !== object), stuff });
    this.#say(`Deleted object ${number}.`);
  }

  // Deletes the selected object, or the last one.
  #deleteOne() {
    this.#delete(this.#selected || this.#history.state.objects.at(-1));
  }

  #do(state) {
    this.#history.add(state);
    this.#update();
  }

  #undo() {
    if (!this.#history.canUndo) return;
    this.#history.undo();
    this.#update();
    this.#say('Undone.');
  }

  #redo() {
    if (!this.#history.canRedo) return;
    this.#history.redo();
    this.#update();
    this.#say('Redone.');
  }

  // Updates the page to the current state.
  #update() {
    const { objects, stuff } = this.#history.state;
    if (!objects.includes(this.#selected)) this.#selected = null;
    this.#view.setPreview(null);
    this.#drawSegments();
    find('objects').replaceChildren(...objects.map((object, i) => this.#objectItem(object, i + 1)));
    find('count').textContent = objects.length;
    find('nothing').hidden = objects.length > 0;
    find('undo').disabled = !this.#history.canUndo;
    find('redo').disabled = !this.#history.canRedo;
    for (const button of document.querySelectorAll('[data-save]')) {
      button.disabled = !objects.length && !stuff.length;
    }
  }

  #drawSegments() {
    const { objects, stuff } = this.#history.state;
    this.#view.setSegments([...stuff, ...objects].map(
      (segment) => ({ ...segment, selected: segment === this.#selected })));
  }

  #objectItem(object, number) {
    const title = `${number}. ${object.label}`;
    const swatch = makeElement('span', { className: 'swatch' });
    swatch.style.background = `rgb(${object.color.join(' ')})`;
    const pick = makeButton('', () => this.#select(object));
    pick.className = 'pick';
    pick.setAttribute('aria-pressed', String(object === this.#selected));
    pick.append(swatch, makeElement('span', { className: 'name' }, title),
                makeElement('span', { className: 'score' }, percent(object.score)));
    const remove = makeButton('✕', () => {
      this.#delete(object);
      find('picture').focus();
    });
    remove.setAttribute('aria-label', `Delete ${title}`);
    return makeElement('li', {}, pick, remove);
  }

  #select(object) {
    this.#selected = this.#selected === object ? null : object;
    const index = this.#history.state.objects.indexOf(object);
    [...find('objects').querySelectorAll('.pick')].forEach((button, i) => button.setAttribute(
      'aria-pressed', String(i === index && this.#selected === object)));
    this.#drawSegments();
  }

  // -- everything ----------------------------------------------------------------------------

  async #segment() {
    const picture = this.#picture;
    const before = this.#history.state;
    const opening = this.#opening;
    const found = [];
    this.#segmenting = new AbortController();
    this.#showProgress(true);
    this.#say('Segmenting everything …');
    try {
      const { segments } = await this.#engine.segment({
        signal: this.#segmenting.signal,
        onProgress: (done, total) => Object.assign(find('progress'), { value: done, max: total }),
        onSegment: (segment) => {
          if (picture !== this.#picture) return;
          found.push({ ...segment, pixels: decodeMask(segment.mask),
                       color: distinctColor(found.length) });
          this.#view.setSegments([...before.stuff, ...before.objects, ...found]);
          this.#say(`${plural(found.length, 'object')} so far.`);
        },
      });
      if (picture === this.#picture) this.#takeResult(segments);
    } catch (error) {
      if (opening !== this.#opening) return;   // another image was chosen
      this.#drawSegments();
      if (error.name !== 'AbortError') this.#fail(error);
      else this.#say('Stopped. Your previous objects are restored.');
    } finally {
      this.#segmenting = null;
      this.#showProgress(false);
    }
  }

  #takeResult(segments) {
    const decoded = segments.map((segment) => ({ ...segment, pixels: decodeMask(segment.mask) }));
    this.#colors = 0;
    const objects = decoded.filter((s) => s.isthing).map((s) => this.#makeObject(s));
    const stuff = decoded.filter((s) => !s.isthing).map((s, i) => (
      { score: s.score, label: s.name, categoryId: s.categoryId, isthing: false,
        pixels: s.pixels, color: stuffColor(i) }));
    this.#do({ objects, stuff });
    this.#say(`Found ${plural(objects.length, 'object')}. `
              + 'They replace the kept objects; Undo restores those.');
  }

  #showProgress(running) {
    find('progress').removeAttribute('value');
    find('progress-row').hidden = !running;
    find('segment').disabled = running;
  }

  async #showPoints(wanted) {
    try {
      this.#view.setPoints(wanted ? await this.#engine.proposals() : []);
    } catch (error) {
      this.#fail(error);
    }
  }

  // -- saving --------------------------------------------------------------------------------

  async #save(kind) {
    try {
      const blob = await SAVERS[kind](this.#scene());
      const name = exports.stem(this.#picture.name);
      const between = kind === 'labelme' ? '.' : '_';
      download(blob, `${name}${between}${FILE_NAMES[kind]}`);
    } catch (error) {
      this.#fail(error);
    }
  }

  #scene() {
    const { image, name, width, height } = this.#picture;
    const { objects, stuff } = this.#history.state;
    const numbered = [...objects, ...stuff].map((segment, i) => ({
      ...segment, id: i + 1,
      pixels: resizePixels(segment.pixels, width, height, image.width, image.height) }));
    return { name, image, width: image.width, height: image.height,
             objects: numbered.slice(0, objects.length), stuff: numbered.slice(objects.length) };
  }

  // -- events --------------------------------------------------------------------------------

  #listen() {
    const on = (id, type, action) => find(id).addEventListener(type, action);
    on('model', 'change', () => this.#chooseModel());
    on('undo', 'click', () => this.#undo());
    on('redo', 'click', () => this.#redo());
    on('segment', 'click', () => this.#segment());
    on('stop', 'click', () => this.#segmenting?.abort());
    on('points', 'change', (event) => this.#showPoints(event.target.checked));
    on('file', 'change', (event) => {
      this.#openFile(event.target.files);
      event.target.value = '';
    });
    for (const button of document.querySelectorAll('[data-save]')) {
      button.addEventListener('click', () => this.#save(button.dataset.save));
    }
    this.#listenToPicture(find('picture'));
    this.#listenToFiles();
    document.addEventListener('keydown', (event) => this.#shortcut(event));
  }

  #listenToPicture(canvas) {
    canvas.addEventListener('pointermove', (event) => {
      if (event.pointerType === 'touch' || !this.#picture || this.#busy) return;   // a tap keeps
      const at = this.#view.pixelAt(event);
      if (at) this.#pointer.move(at.x, at.y);
    });
    canvas.addEventListener('pointerleave', () => this.#pointer.leave());
    canvas.addEventListener('click', (event) => {
      const at = this.#view.pixelAt(event);
      if (!at) return;
      this.#cross = null;
      this.#view.setCross(null);
      this.#keep(at.x, at.y);
    });
    canvas.addEventListener('keydown', (event) => this.#key(event));
    canvas.addEventListener('blur', () => this.#view.setCross(null));
    canvas.addEventListener('focus', () => this.#view.setCross(this.#cross));
  }

  #listenToFiles() {
    const drop = (event) => {
      event.preventDefault();
      document.body.classList.toggle('dropping', event.type === 'dragover');
      if (event.type === 'drop') this.#openFile(event.dataTransfer.files);
    };
    for (const type of ['dragover', 'dragleave', 'drop']) document.addEventListener(type, drop);
    document.addEventListener('paste', (event) => this.#openFile(event.clipboardData.files));
  }

  #openFile(files) {
    if (files.length) this.#open(files[0], files[0].name);
  }

  #key(event) {
    const direction = DIRECTIONS[event.key];
    if (!this.#picture || this.#busy) return;
    if (direction) this.#moveCross(direction, event.shiftKey ? LARGE_STEP : STEP);
    else if (event.key === 'Enter' || event.key === ' ') this.#keepAtCross();
    else if (event.key === 'Escape') this.#leaveCross();
    else return;
    event.preventDefault();
  }

  #moveCross([dx, dy], step) {
    const { width, height } = this.#picture;
    const from = this.#cross || { x: Math.floor(width / 2), y: Math.floor(height / 2) };
    const within = (value, size) => Math.min(Math.max(value, 0), size - 1);
    this.#cross = { x: within(from.x + dx * step, width), y: within(from.y + dy * step, height) };
    this.#view.setCross(this.#cross);
    this.#pointer.move(this.#cross.x, this.#cross.y);
  }

  #keepAtCross() {
    if (this.#cross) this.#keep(this.#cross.x, this.#cross.y);
    else this.#moveCross([0, 0], STEP);
  }

  #leaveCross() {
    this.#cross = null;
    this.#view.setCross(null);
    this.#pointer.leave();
  }

  #shortcut(event) {
    const command = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (command && key === 'z' && !event.shiftKey) this.#undo();
    else if (command && (key === 'y' || key === 'z')) this.#redo();
    else if (event.key === 'Delete') this.#deleteOne();
    else return;
    event.preventDefault();
  }

  // -- words ---------------------------------------------------------------------------------

  #say(sentence) {
    find('status').textContent = sentence;
  }

  #fail(error) {
    tell('error', error.message);
    this.#say('');
  }
}

createEngine().then((engine) => new Page(engine)).catch((error) => {
  tell('error', error.message);
  find('status').textContent = '';
});
