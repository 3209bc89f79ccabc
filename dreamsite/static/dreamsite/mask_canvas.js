// A mask as it is drawn: marks in pixels of the picture, painted one after the other. What is painted may change.
//
// The canvas is painted with opaque stripes of a light and a dark colour, so that it can be told from any picture, also by
// people who do not see colours; its pages make it translucent.
import { createCanvas } from "./canvases.js";

// Larger canvases stay empty on iOS. The server fits the mask to the picture.
const MAX_SIDE = 4096;
const STRIPES = ["#c2006b", "#ffffff"];
const STRIPES_IN_SIDE = 60;
const ROWS_AT_ONCE = 256;
const HALF = 128;

/** Return a pattern of diagonal stripes, each half a `period` wide. */
function createStripes(context, period) {
  const tile = createCanvas(period, period);
  const drawing = tile.getContext("2d");
  drawing.fillStyle = STRIPES[0];
  drawing.fillRect(0, 0, period, period);
  drawing.strokeStyle = STRIPES[1];
  drawing.lineWidth = period / 4;
  for (const shift of [-period, 0, period]) {
    drawing.beginPath();
    // Beyond the tile, so that its corners are filled and the stripes have no gaps.
    drawing.moveTo(shift - period, 2 * period);
    drawing.lineTo(shift + 2 * period, -period);
    drawing.stroke();
  }
  return context.createPattern(tile, "repeat");
}

/** Return a picture of a mask as a canvas that is opaque where it may change: where it is opaque, or else white. */
function readMask(picture, width, height) {
  const canvas = createCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0, width, height);
  const image = context.getImageData(0, 0, width, height);
  const { data } = image;
  let isOpaque = true;
  for (let at = 3; at < data.length && isOpaque; at += 4) isOpaque = data[at] === 255;
  for (let at = 0; at < data.length; at += 4) {
    const value = isOpaque ? 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2] : data[at + 3];
    data[at + 3] = value >= HALF ? 255 : 0;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

export class MaskCanvas {
  #marks = [];
  #undone = [];
  #undoneBefore = []; // the last mark
  #context;
  #stripes;
  #scale;

  /** Begin an empty mask of a picture of this size in pixels. */
  constructor(width, height) {
    Object.assign(this, { width, height });
    this.#scale = Math.min(1, MAX_SIDE / Math.max(width, height));
    this.canvas = createCanvas(...[width, height].map((side) => Math.max(1, Math.round(side * this.#scale))));
    this.canvas.className = "mask-canvas";
    this.#context = this.canvas.getContext("2d");
    const side = Math.max(this.canvas.width, this.canvas.height);
    this.#stripes = createStripes(this.#context, Math.max(8, Math.round(side / STRIPES_IN_SIDE)));
  }

  get canUndo() {
    return this.#marks.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /**
   * Add a mark: a "line" of a `width` along `points`, an "area" within `points`, a "picture" of a whole mask, "invert" or
   * "clear". Lines and areas with `isErased` take away.
   */
  add(mark) {
    this.#marks.push(mark);
    this.#undoneBefore = this.#undone;
    this.#undone = [];
    this.#paint(mark);
  }

  addPicture(picture) {
    this.add({ kind: "picture", picture: readMask(picture, this.canvas.width, this.canvas.height) });
  }

  /** Continue the last mark, a line, to a point. */
  extend(point) {
    const mark = this.#marks.at(-1);
    mark.points.push(point);
    this.#paint({ ...mark, points: mark.points.slice(-2) });
  }

  /** Take the last mark away as if it had never been. */
  drop() {
    this.#marks.pop();
    this.#undone = this.#undoneBefore;
    this.#repaint();
  }

  undo() {
    if (!this.canUndo) return;
    this.#undone.push(this.#marks.pop());
    this.#repaint();
  }

  redo() {
    if (!this.canRedo) return;
    this.#marks.push(this.#undone.pop());
    this.#paint(this.#marks.at(-1));
  }

  /** Return which share of the picture may change, 0 to 1, and the box around it in pixels of the picture. */
  measure() {
    const { width, height } = this.canvas;
    let open = 0;
    let [left, upper, right, lower] = [width, height, 0, 0];
    for (let top = 0; top < height; top += ROWS_AT_ONCE) {
      const rows = Math.min(ROWS_AT_ONCE, height - top);
      const { data } = this.#context.getImageData(0, top, width, rows);
      for (let at = 3, x = 0, y = top; at < data.length; at += 4) {
        if (data[at] >= HALF) {
          open += 1;
          if (x < left) left = x;
          if (x >= right) right = x + 1;
          if (y < upper) upper = y;
          lower = y + 1;
        }
        if (++x === width) [x, y] = [0, y + 1];
      }
    }
    const box = open ? [left, upper, right, lower].map((edge) => Math.round(edge / this.#scale)) : [0, 0, 0, 0];
    return { share: open / (width * height), box };
  }

  /** Return the mask as a file, white where the picture may change and black elsewhere. */
  async toFile() {
    const white = createCanvas(this.canvas.width, this.canvas.height);
    const context = white.getContext("2d");
    context.drawImage(this.canvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, white.width, white.height);
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#000";
    context.fillRect(0, 0, white.width, white.height);
    const blob = await new Promise((resolve) => white.toBlob(resolve, "image/png"));
    return new File([blob], "mask.png", { type: "image/png" });
  }

  #repaint() {
    this.#clear();
    // What was before a mark that replaces everything does not show.
    const first = this.#marks.findLastIndex(({ kind }) => kind === "clear" || kind === "picture");
    for (const mark of this.#marks.slice(Math.max(0, first))) this.#paint(mark);
  }

  #clear() {
    this.#context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  #paint(mark) {
    if (mark.kind === "clear") {
      this.#clear();
    } else if (mark.kind === "invert") {
      this.#fillAll("source-out");
    } else if (mark.kind === "picture") {
      this.#clear();
      this.#context.drawImage(mark.picture, 0, 0);
      this.#fillAll("source-in");
    } else {
      this.#paintShape(mark);
    }
  }

  #fillAll(operation) {
    const context = this.#context;
    context.globalCompositeOperation = operation;
    context.fillStyle = this.#stripes;
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.globalCompositeOperation = "source-over";
  }

  #paintShape({ kind, points, width, isErased }) {
    const context = this.#context;
    const path = new Path2D();
    path.moveTo(...points[0]);
    // A line to where it begins is a dot.
    for (const point of points.length > 1 ? points.slice(1) : points) path.lineTo(...point);
    const outline = new Path2D();
    outline.addPath(path, new DOMMatrix().scaleSelf(this.#scale));
    context.globalCompositeOperation = isErased ? "destination-out" : "source-over";
    if (kind === "line") {
      Object.assign(context, { lineCap: "round", lineJoin: "round", strokeStyle: this.#stripes });
      context.lineWidth = Math.max(1, width * this.#scale);
      context.stroke(outline);
    } else {
      context.fillStyle = this.#stripes;
      context.fill(outline);
    }
    context.globalCompositeOperation = "source-over";
  }
}
