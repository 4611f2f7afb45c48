// The engine of the page: here it is the server that `adaptis serve` starts.
//
// app.js knows only this interface, so that another engine can take its place (one that runs the
// network in the browser, for instance):
//
//   const engine = await createEngine()
//   engine.models            [{name, title, trainedOn, samples: [{name, url}]}]
//       trainedOn may be '', and there may be no samples.
//   await engine.open(blob, modelName)
//                            -> {width, height, pointProposals, warning}
//       Decodes an image, computes its features, and closes the previous one; if the image cannot
//       be read, the previous one stays open.  Width and height are those of the masks: a large
//       image is shrunk, and its aspect ratio is kept.  Pixels are as a browser shows them (EXIF).
//       warning may be a sentence about the image for the user.
//   await engine.mask(x, y)  -> {score, categoryId, name, mask}
//       The object at a pixel, 0 <= x < width.  A mask is {width, height, counts}: uncompressed run
//       lengths of COCO, column by column, first a run of pixels outside (which may be 0 long).
//       score is the mean probability over the pixels of the mask; 0 if there are none.  categoryId
//       and name are those of the most probable thing class, or null if unknown.
//   await engine.proposals() -> [{x, y, score}], the points that the network proposes; only if
//       open() returned pointProposals
//   await engine.segment({onProgress(done, total), onSegment(segment), signal})
//                            -> {segments: [{id, categoryId, name, isthing, score, mask}]}
//       Everything in the image, with each pixel in at most one segment.  onSegment is called with each
//       object as soon as it is accepted, when its class is not known yet (categoryId is null).
//       signal is an AbortSignal; the promise is then rejected with an AbortError.
//   await engine.close()     drops the image
//
// Errors are of class Error, and their message is a sentence for the user.

const TOKEN = 'adaptis-token';

export async function createEngine() {
  const server = new Server(takeToken());
  const models = await server.json('api/models');
  return new Engine(server, models);
}

class Engine {
  #server;
  #image = null;      // the id of the open image
  #opened = null;     // its blob and model, to open it again if the server has forgotten it
  #reopening = null;  // the promise of that

  constructor(server, models) {
    this.#server = server;
    this.models = models.map((model) => ({
      ...model,
      samples: model.samples.map((sample) => ({ ...sample, url: server.url(sample.url) })),
    }));
  }

  async open(blob, modelName) {
    const query = `?model=${encodeURIComponent(modelName)}`;
    const options = { method: 'POST', body: blob };
    const { id, ...opened } = await this.#server.json(`api/images${query}`, options);
    const before = this.#image;   // it stays open if the new file cannot be read
    this.#image = id;
    this.#opened = { blob, modelName };
    if (before) await this.#forget(before);
    return opened;
  }

  mask(x, y) {
    return this.#ask(`mask?x=${x}&y=${y}`);
  }

  proposals() {
    return this.#ask('proposals');
  }

  async segment({ onProgress = () => {}, onSegment = () => {}, signal } = {}) {
    const options = { method: 'POST', signal };
    for await (const event of lines(await this.#request('segments', options))) {
      if (event.error) throw new Error(event.error);
      if (event.progress) onProgress(...event.progress);
      if (event.segment) onSegment(event.segment);
      if (event.result) return event.result;
    }
    throw new Error('The server ended the segmentation early: try again.');
  }

  async close() {
    const image = this.#image;
    this.#image = null;
    if (image) await this.#forget(image);
  }

  #forget(image) {
    return this.#server.request(`api/images/${image}`, { method: 'DELETE' });
  }

  async #ask(what) {
    return (await this.#request(what)).json();
  }

  // A server with many visitors closes the least recently used image, which is then reopened.
  async #request(what, options) {
    const image = this.#image;
    if (!image) throw new Error('There is no image yet: choose or upload one.');
    const ask = () => this.#server.request(`api/images/${this.#image}/${what}`, options);
    try {
      return await ask();
    } catch (error) {
      if (error.status !== 404) throw error;
      if (image === this.#image) await this.#openAgain();
      return ask();
    }
  }

  // Several requests may find the image closed; it is reopened once for all of them.
  #openAgain() {
    const { blob, modelName } = this.#opened;
    this.#reopening ??= this.open(blob, modelName).finally(() => { this.#reopening = null; });
    return this.#reopening;
  }
}

class Server {
  #headers;

  constructor(token) {
    this.#headers = token ? { Authorization: `Bearer ${token}` } : {};
  }

  url(path) {
    return new URL(path, document.baseURI).href;
  }

  async request(path, options = {}) {
    let answer;
    try {
      answer = await fetch(this.url(path), { ...options, headers: this.#headers });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Error('The server does not respond: check that "adaptis serve" is still running.');
    }
    if (answer.ok) return answer;
    const told = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(told.error || `The server answered ${answer.status}.`),
                        { status: answer.status });
  }

  async json(path, options) {
    return (await this.request(path, options)).json();
  }
}

// The token follows the # of the address, is kept for this tab, and is removed from the address bar.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given) {
    sessionStorage.setItem(TOKEN, given);
    history.replaceState(null, '', location.pathname + location.search);
  }
  return given || sessionStorage.getItem(TOKEN);
}

async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const parts = (text + value).split('\n');
    text = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}
