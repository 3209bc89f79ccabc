// Canvases: drawing on them, and reading what is drawn.

export const createCanvas = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

export const pixelsOf = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;

/** Return whether what is drawn can be read: browsers that hide who one is return noise instead. */
export function isReadable() {
  const canvas = createCanvas(8, 8);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, 8, 4);
  return pixelsOf(canvas).every((value, index) => value === (index < 4 * 8 * 4 ? 255 : 0));
}
