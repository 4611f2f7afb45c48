// The random numbers of Python: random.Random(seed).sample(range(count), wanted).  They come from a
// Mersenne Twister (Matsumoto and Nishimura, 1998).

const SIZE = 624;
const MIDDLE = 397;

export class PythonRandom {
  #state = new Uint32Array(SIZE);
  #next = SIZE;

  constructor(seed) {
    const key = [];
    for (let rest = Math.abs(seed); rest > 0 || !key.length; rest = Math.floor(rest / 2 ** 32)) {
      key.push(rest % 2 ** 32);
    }
    this.#mixIn(key);
  }

  // Returns so many different numbers below count.
  sample(count, wanted) {
    const small = 21 + (wanted > 5 ? 4 ** Math.ceil(Math.log(3 * wanted) / Math.log(4)) : 0);
    return count <= small ? this.#drawFromPool(count, wanted) : this.#drawApart(count, wanted);
  }

  #drawFromPool(count, wanted) {
    const pool = Array.from({ length: count }, (_, i) => i);
    return Array.from({ length: wanted }, (_, i) => {
      const k = this.#below(count - i);
      const drawn = pool[k];
      pool[k] = pool[count - i - 1];
      return drawn;
    });
  }

  #drawApart(count, wanted) {
    const drawn = new Set();
    while (drawn.size < wanted) drawn.add(this.#below(count));
    return [...drawn];
  }

  #below(limit) {
    const bits = 32 - Math.clz32(limit);
    for (;;) {
      const value = this.#word() >>> (32 - bits);
      if (value < limit) return value;
    }
  }

  #word() {
    if (this.#next === SIZE) this.#twist();
    let y = this.#state[this.#next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return y >>> 0;
  }

  #twist() {
    const s = this.#state;
    for (let i = 0; i < SIZE; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % SIZE] & 0x7fffffff);
      s[i] = s[(i + MIDDLE) % SIZE] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#next = 0;
  }

  #mixIn(key) {
    const s = this.#state;
    s[0] = 19650218;
    for (let i = 1; i < SIZE; i++) s[i] = Math.imul(1812433253, s[i - 1] ^ (s[i - 1] >>> 30)) + i;
    let i = 1;
    const advance = () => {
      i++;
      if (i >= SIZE) {
        s[0] = s[SIZE - 1];
        i = 1;
      }
    };
    const before = () => s[i - 1] ^ (s[i - 1] >>> 30);
    for (let k = 0; k < Math.max(SIZE, key.length); k++) {
      const j = k % key.length;
      s[i] = (s[i] ^ Math.imul(before(), 1664525)) + key[j] + j;
      advance();
    }
    for (let k = 0; k < SIZE - 1; k++) {
      s[i] = (s[i] ^ Math.imul(before(), 1566083941)) - i;
      advance();
    }
    s[0] = 0x80000000;
  }
}
