// Zooms and pans the pictures in the viewer's panes by wheel, pinch, drag and double click. With two panes, both show the
// same part of their pictures: the state is in parts of a picture, not in pixels.

const MAX_SCALE = 8;
const PAN_STEP = 0.15; // of the pane
const SWIPE_PX = 56;

const hasPoint = (box, { x, y }) => x >= box.left && x < box.right && y >= box.top && y < box.bottom;

/**
 * Zoom the pictures in `stage`. `onZoom` gets the scale of the first picture: 1 shows one pixel of it in one of the page;
 * `onSwipe` gets the direction of a swipe over a picture that is shown whole.
 */
export function startZoom(stage, { onZoom, onSwipe }) {
  // `zoom` is relative to the size at which a picture fits its pane; x and y, 0 to 1, are the middle of what is shown.
  let state = { zoom: 1, x: 0.5, y: 0.5 };
  const pointers = new Map();
  let swipe = null;

  const panes = () => [...stage.querySelectorAll(".viewer-pane:not([hidden])")];
  const imageOf = (pane) => pane.querySelector("img");

  /** Return the sizes of a pane and of its picture as shown, or null before the picture is loaded. */
  function measure(pane, zoom = state.zoom) {
    const { naturalWidth: width, naturalHeight: height } = (pane && imageOf(pane)) ?? {};
    if (!width) return null;
    const fit = Math.min(pane.clientWidth / width, pane.clientHeight / height);
    return { fit, width: width * fit * zoom, height: height * fit * zoom, within: [pane.clientWidth, pane.clientHeight] };
  }

  /** Return the middle, in parts of a length, that leaves no gap beside the picture. */
  function bounded(middle, length, within) {
    if (length <= within) return 0.5;
    const half = within / 2 / length;
    return Math.min(Math.max(middle, half), 1 - half);
  }

  function render() {
    for (const [index, pane] of panes().entries()) {
      const size = measure(pane);
      if (!size) continue;
      const [x, y] = [bounded(state.x, size.width, size.within[0]), bounded(state.y, size.height, size.within[1])];
      const image = imageOf(pane);
      image.style.width = `${size.width}px`;
      image.style.height = `${size.height}px`;
      image.style.translate = `${size.within[0] / 2 - x * size.width}px ${size.within[1] / 2 - y * size.height}px`;
      image.classList.toggle("pixels", size.fit * state.zoom >= 4);
      if (index === 0) {
        [state.x, state.y] = [x, y];
        stage.classList.toggle("is-large", size.width > size.within[0] + 1 || size.height > size.within[1] + 1);
        onZoom(size.fit * state.zoom);
      }
    }
  }

  /** Zoom to a scale of the first picture; the point of the page, by default the middle, stays where it is. */
  function zoomTo(scale, point) {
    const pane = panes().find((each) => point && hasPoint(each.getBoundingClientRect(), point)) ?? panes()[0];
    const [first, before] = [measure(panes()[0]), measure(pane)];
    if (!first || !before) return;
    const lowest = Math.min(first.fit, 1);
    const zoom = Math.min(Math.max(scale, lowest), Math.max(MAX_SCALE, 2 * first.fit)) / first.fit;
    const after = measure(pane, zoom);
    const box = pane.getBoundingClientRect();
    const offset = point ? [point.x - box.x - box.width / 2, point.y - box.y - box.height / 2] : [0, 0];
    state = {
      zoom,
      x: state.x + offset[0] / before.width - offset[0] / after.width,
      y: state.y + offset[1] / before.height - offset[1] / after.height,
    };
    render();
  }

  const scaleNow = () => (measure(panes()[0])?.fit ?? 1) * state.zoom;
  const zoomBy = (factor, point) => zoomTo(scaleNow() * factor, point);

  function whole() {
    state = { zoom: 1, x: 0.5, y: 0.5 };
    render();
  }

  /** Move what is shown by pixels of the page. */
  function move(pane, right, down) {
    const size = measure(pane);
    if (!size) return;
    state.x += right / size.width;
    state.y += down / size.height;
    render();
  }

  const points = () => [...pointers.values()];
  const middleOf = (all) => ({
    x: all.reduce((sum, point) => sum + point.x, 0) / all.length,
    y: all.reduce((sum, point) => sum + point.y, 0) / all.length,
  });
  const spread = ([first, second]) => Math.hypot(first.x - second.x, first.y - second.y);

  stage.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button, label, a")) return;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const canSwipe = event.pointerType === "touch" && pointers.size === 1 && !stage.classList.contains("is-large");
    swipe = canSwipe ? { x: event.clientX, y: event.clientY } : null;
  });
  stage.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = points();
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const after = points();
    const [from, to] = [middleOf(before), middleOf(after)];
    if (!swipe) move(panes()[0], from.x - to.x, from.y - to.y);
    if (after.length === 2) zoomBy(spread(after) / spread(before), to);
  });
  for (const type of ["pointerup", "pointercancel"]) {
    stage.addEventListener(type, (event) => {
      pointers.delete(event.pointerId);
      if (!swipe || type === "pointercancel") return;
      const [right, down] = [event.clientX - swipe.x, event.clientY - swipe.y];
      swipe = null;
      if (Math.max(Math.abs(right), Math.abs(down)) < SWIPE_PX) return;
      const isSideways = Math.abs(right) > Math.abs(down);
      onSwipe(isSideways ? (right < 0 ? "right" : "left") : down < 0 ? "down" : "up");
    });
  }
  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      // A pinch on a touchpad comes as a wheel with ctrl, in small steps; a line of a wheel is about 16 pixels.
      const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1);
      zoomBy(Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.002)), { x: event.clientX, y: event.clientY });
    },
    { passive: false },
  );
  stage.addEventListener("dblclick", (event) => {
    if (event.target.closest("button, label, a")) return;
    if (Math.abs(state.zoom - 1) > 0.01) whole();
    else zoomTo(Math.max(1, 2 * scaleNow()), { x: event.clientX, y: event.clientY });
  });
  new ResizeObserver(render).observe(stage);

  return {
    render,
    whole,
    zoomBy,
    zoomTo,
    pan(right, down) {
      const pane = panes()[0];
      move(pane, right * PAN_STEP * pane.clientWidth, down * PAN_STEP * pane.clientHeight);
    },
  };
}
