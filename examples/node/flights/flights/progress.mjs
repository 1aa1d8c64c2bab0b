/** One line that says how far it is; on a terminal it is drawn anew. */

const WIDTH = 30;
/** Milliseconds between two drawings on a terminal. */
const DRAWN_EVERY = 200;
/** Milliseconds between two lines elsewhere, such as in a log. */
const PRINTED_EVERY = 5000;

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** Counts to `total`; draws on stderr. */
export class Progress {
  done = 0;
  #label;
  #total;
  #out;
  #every;
  #started = performance.now();
  #shown = performance.now();

  /**
   * @param {string} label
   * @param {number} total
   * @param {NodeJS.WriteStream} [out]
   */
  constructor(label, total, out = process.stderr) {
    this.#label = label;
    this.#total = Math.max(total, 1);
    this.#out = out;
    this.#every = out.isTTY ? DRAWN_EVERY : PRINTED_EVERY;
  }

  step() {
    this.done += 1;
    // The clock is looked at now and then: most steps are an addition.
    if (this.done % 64 !== 0) return;
    if (performance.now() - this.#shown >= this.#every) this.#show();
  }

  /**
   * As somebody else counts.
   *
   * @param {number} done
   * @param {number} total
   */
  reach(done, total) {
    this.done = done;
    this.#total = Math.max(total, 1);
    if (performance.now() - this.#shown >= this.#every) this.#show();
  }

  end() {
    this.#show();
    if (this.#out.isTTY) this.#out.write("\n");
  }

  #show() {
    this.#shown = performance.now();
    const seconds = Math.max(this.#shown - this.#started, 1e-6) / 1000;
    const share = Math.min(this.done / this.#total, 1);
    const rate = this.done / seconds;
    const left = rate === 0 ? 0 : Math.max(this.#total - this.done, 0) / rate;
    const bar = "#".repeat(Math.round(share * WIDTH)).padEnd(WIDTH, ".");
    const percent = `${Math.round(share * 100)}%`.padStart(4);
    const counts = `${whole.format(this.done)} of ${whole.format(this.#total)}`;
    const line = `${this.#label} [${bar}] ${percent}  ${counts}  ${whole.format(rate)}/s  ${whole.format(left)} s left`;
    this.#out.write(this.#out.isTTY ? `\r\x1b[2K${line}` : `${line}\n`);
  }
}
