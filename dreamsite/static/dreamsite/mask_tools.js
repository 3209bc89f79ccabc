// The tools of the mask editor: a brush, a rectangle and a lasso, which paint or erase, by mouse, pen, finger or keyboard.
// Two fingers, the wheel with Ctrl and a drag with the space bar move and zoom the picture. What is drawn is in pixels of
// the picture.

const KEY_STEP = 0.02; // of the longer side
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SIZE_STEP = 1.25;
const LINE_PIXELS = 16;

/** Return the corners of the rectangle between two points, around whole pixels. */
export function rectangle([x1, y1], [x2, y2]) {
  const [left, upper] = [Math.floor(Math.min(x1, x2)), Math.floor(Math.min(y1, y2))];
  const [right, lower] = [Math.ceil(Math.max(x1, x2)), Math.ceil(Math.max(y1, y2))];
  return [[left, upper], [right, upper], [right, lower], [left, lower]];
}

const middleOf = ([first, second]) => ({
  clientX: (first.clientX + second.clientX) / 2,
  clientY: (first.clientY + second.clientY) / 2,
});
const spread = ([first, second]) => Math.hypot(first.clientX - second.clientX, first.clientY - second.clientY);

/**
 * Return the tools of `stage`, whose picture `view` shows. `onChange` is called after each mark, `onSize` with the size of
 * the brush, `onPen` when one begins to draw by keyboard.
 */
export function createTools(stage, view, { onChange, onSize, onPen }) {
  const cursor = stage.querySelector("circle");
  const outline = stage.querySelector("polygon");
  const tools = { tool: "brush", isErasing: false, size: 1 };
  const pointers = new Map();
  let mask = null;
  let points = null; // of the mark that is being drawn
  let at = [0, 0]; // where the keyboard draws
  let mode = "idle"; // or "draw", "pan", "gesture"
  let isSpaceDown = false;

  function showCursor(point) {
    at = point;
    cursor.setAttribute("cx", point[0]);
    cursor.setAttribute("cy", point[1]);
    cursor.setAttribute("r", tools.tool === "brush" ? tools.size / 2 : Math.min(mask.width, mask.height) / 100);
  }

  const corners = () => (tools.tool === "rectangle" ? rectangle(points[0], points.at(-1)) : points);
  const showOutline = () => outline.setAttribute("points", points && tools.tool !== "brush" ? corners().join(" ") : "");

  function begin(point) {
    points = [point];
    if (tools.tool === "brush") mask.add({ kind: "line", points: [point], width: tools.size, isErased: tools.isErasing });
  }

  function extend(point) {
    points.push(point);
    if (tools.tool === "brush") mask.extend(point);
    showOutline();
  }

  function end() {
    const area = corners();
    const hasArea = points.length > 1 && area.length > 2;
    points = null;
    showOutline();
    if (tools.tool !== "brush") {
      if (!hasArea) return;
      mask.add({ kind: "area", points: area, isErased: tools.isErasing });
    }
    onChange();
  }

  function cancel() {
    if (!points) return;
    points = null;
    showOutline();
    if (tools.tool === "brush") mask.drop();
    onChange();
  }

  function setSize(size) {
    const most = Math.round(Math.max(mask.width, mask.height) / 2);
    tools.size = Math.min(Math.max(Math.round(size), 1), most);
    showCursor(at);
    onSize(tools.size, most);
  }

  /** Make the brush larger or smaller, by at least a pixel. */
  function resize(factor) {
    const size = Math.round(tools.size * factor);
    setSize(size === tools.size ? size + Math.sign(factor - 1) : size);
  }

  stage.addEventListener("pointerdown", (event) => {
    if (event.button > 1 || event.target.closest("label")) return;
    event.preventDefault();
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    stage.classList.remove("by-keyboard");
    if (pointers.size === 2) {
      cancel();
      mode = "gesture";
    } else if (pointers.size === 1 && (event.button === 1 || isSpaceDown || tools.tool === "move")) {
      mode = "pan";
    } else if (pointers.size === 1) {
      mode = "draw";
      cancel();
      showCursor(view.toPicture(event));
      begin(at);
    }
  });

  stage.addEventListener("pointermove", (event) => {
    const before = [...pointers.values()];
    if (!pointers.has(event.pointerId)) {
      if (!points) showCursor(view.toPicture(event));
      return;
    }
    const last = pointers.get(event.pointerId);
    pointers.set(event.pointerId, event);
    const after = [...pointers.values()];
    if (mode === "draw") {
      for (const each of event.getCoalescedEvents?.() ?? []) extend(view.toPicture(each));
      extend(view.toPicture(event));
      showCursor(view.toPicture(event));
    } else if (mode === "pan") {
      view.pan(event.clientX - last.clientX, event.clientY - last.clientY);
    } else if (after.length === 2) {
      const [from, to] = [middleOf(before), middleOf(after)];
      view.pan(to.clientX - from.clientX, to.clientY - from.clientY);
      if (spread(before) > 0) view.zoomBy(spread(after) / spread(before), to);
    }
  });

  for (const type of ["pointerup", "pointercancel"]) {
    stage.addEventListener(type, (event) => {
      if (!pointers.delete(event.pointerId)) return;
      if (mode === "draw" && points) type === "pointerup" ? end() : cancel();
      // The finger that is left after a pinch does not draw.
      if (!pointers.size) mode = "idle";
    });
  }

  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE_PIXELS : 1);
      // A pinch on a touchpad comes as a wheel with Ctrl, in small steps.
      if (event.ctrlKey || event.metaKey) view.zoomBy(Math.exp(-pixels * 0.01), event);
      else if (pixels) resize(pixels < 0 ? SIZE_STEP : 1 / SIZE_STEP);
    },
    { passive: false },
  );

  stage.addEventListener("keydown", (event) => {
    if (event.target !== stage || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") {
      isSpaceDown = true;
    } else if (event.key in ARROWS) {
      const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(mask.width, mask.height) * KEY_STEP));
      const [right, down] = ARROWS[event.key];
      stage.classList.add("by-keyboard");
      showCursor([
        Math.min(Math.max(at[0] + right * step, 0), mask.width),
        Math.min(Math.max(at[1] + down * step, 0), mask.height),
      ]);
      if (points) extend(at);
      view.reveal(at);
    } else if (event.key === "Enter" && tools.tool !== "move") {
      stage.classList.add("by-keyboard");
      if (points) {
        end();
      } else {
        begin(at);
        onPen();
      }
    } else if (event.key === "Escape" && points) {
      cancel();
    } else {
      return;
    }
    event.preventDefault();
  });
  stage.addEventListener("keyup", (event) => event.key === " " && (isSpaceDown = false));
  stage.addEventListener("blur", () => (isSpaceDown = false));

  return Object.assign(tools, {
    cancel,
    setSize,
    larger: () => resize(SIZE_STEP),
    smaller: () => resize(1 / SIZE_STEP),
    /** Draw on this mask from now on. */
    use(newMask) {
      mask = newMask;
      at = [mask.width / 2, mask.height / 2];
      points = null;
      showOutline();
    },
    choose(tool) {
      cancel();
      tools.tool = tool;
      showCursor(at);
    },
  });
}
