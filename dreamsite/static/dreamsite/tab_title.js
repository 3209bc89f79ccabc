// The tab's title while jobs are made, "62 % · Studio", and after their end until the reader comes back, "Done · Studio".

const title = document.title;
// The percent of each job that has not ended, null while it waits.
const percents = new Map();
let lastEnd = "";

function show() {
  const running = [...percents.values()].filter((percent) => percent !== null);
  const mean = Math.round(running.reduce((sum, percent) => sum + percent, 0) / running.length);
  let words = document.hidden ? lastEnd : "";
  if (running.length) words = `${mean} %`;
  else if (percents.size) words = "Queued";
  document.title = words ? `${words} · ${title}` : title;
}

export function showPercent(job, percent) {
  percents.set(job, percent);
  show();
}

/** Say how a job has ended, such as "Done.", or only that it counts no more, "". */
export function showEnd(job, words) {
  percents.delete(job);
  lastEnd = words.replace(/\.$/, "");
  show();
}

document.addEventListener("visibilitychange", show);
