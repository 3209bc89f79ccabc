// A mask in words.

/** Return which share of a picture, 0 to 1, may change, in words. */
export function openShare(share) {
  if (share === 0) return "Nothing is marked.";
  if (share === 1) return "The whole picture may change.";
  const percent = Math.round(100 * share);
  if (percent < 1) return "Less than 1 % may change.";
  return percent > 99 ? "More than 99 % may change." : `${percent} % may change.`;
}
