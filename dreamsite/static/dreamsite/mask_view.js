// How the mask editor shows the picture: zoomed and moved within its stage.

const MAX_SCALE = 16;
const MARGIN = 16;
const EDGE = 32; // what of the stage a point keeps from its edge

/** Show `paper`, a picture of `width` x `height` pixels, in `stage`. `onZoom` gets the scale: 1 is pixel by pixel. */
export function createView(stage, paper, onZoom) {
  let size = { width: 1, height: 1 };
  let state = { scale: 1, x: 0, y: 0 };
  let isFitted = true;

  const fittedScale = () =>
    Math.min((stage.clientWidth - 2 * MARGIN) / size.width, (stage.clientHeight - 2 * MARGIN) / size.height);

  /** Keep the picture in sight: centred where it is smaller than the stage, else without a gap of more than the margin. */
  function bounded(offset, length, within) {
    if (length + 2 * MARGIN <= within) return (within - length) / 2;
    return Math.min(MARGIN, Math.max(offset, within - length - MARGIN));
  }

  function render() {
    if (!stage.clientWidth) return;
    if (isFitted) state.scale = Math.max(fittedScale(), 0.001);
    const [width, height] = [size.width * state.scale, size.height * state.scale];
    state.x = bounded(state.x, width, stage.clientWidth);
    state.y = bounded(state.y, height, stage.clientHeight);
    paper.style.width = `${width}px`;
    paper.style.height = `${height}px`;
    paper.style.translate = `${state.x}px ${state.y}px`;
    paper.classList.toggle("pixels", state.scale >= 4);
    onZoom(state.scale);
  }

  function zoomBy(factor, point) {
    const box = stage.getBoundingClientRect();
    const [x, y] = point ? [point.clientX - box.x, point.clientY - box.y] : [box.width / 2, box.height / 2];
    const lowest = Math.min(fittedScale(), 1);
    const scale = Math.min(Math.max(state.scale * factor, lowest), MAX_SCALE);
    const change = scale / state.scale;
    state = { scale, x: x - (x - state.x) * change, y: y - (y - state.y) * change };
    isFitted = scale === lowest && lowest < 1;
    render();
  }

  function pan(right, down) {
    state.x += right;
    state.y += down;
    render();
  }

  new ResizeObserver(render).observe(stage);

  return {
    zoomBy,
    pan,
    show(width, height) {
      size = { width, height };
      isFitted = true;
      render();
    },
    fit() {
      isFitted = true;
      render();
    },
    /** Return where a point of the page is in the picture, in its pixels, within its edges. */
    toPicture({ clientX, clientY }) {
      const box = stage.getBoundingClientRect();
      const within = (value, most) => Math.min(Math.max(value, 0), most);
      return [
        within((clientX - box.x - state.x) / state.scale, size.width),
        within((clientY - box.y - state.y) / state.scale, size.height),
      ];
    },
    /** Move the picture so far that this point of it is seen. */
    reveal([x, y]) {
      const missing = (at, within) => Math.max(0, EDGE - at) - Math.max(0, at - within + EDGE);
      const right = missing(state.x + x * state.scale, stage.clientWidth);
      const down = missing(state.y + y * state.scale, stage.clientHeight);
      if (right || down) pan(right, down);
    },
  };
}
