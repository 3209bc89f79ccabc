// The kinds of pictures by their first bytes, as the server judges them too, whatever a file is called.

// ISO 14496-12 begins a file with the box "ftyp" and its brand: ISO 23008-12 (HEIF) and AVIF name theirs.
const SIGNATURES = {
  "image/png": /^\x89PNG\r\n\x1a\n/,
  "image/jpeg": /^\xff\xd8\xff/,
  "image/webp": /^RIFF.{4}WEBP/s,
  "image/gif": /^GIF8[79]a/,
  "image/bmp": /^BM/,
  "image/tiff": /^(II[*+]\0|II\0[*+]|MM\0[*+]|MM[*+]\0)/,
  "image/avif": /^.{4}ftyp(avi[fos]|mif1|msf1)/s,
  "image/heif": /^.{4}ftyp(hei[cmsx]|mif1|msf1)/s,
};
const LONGEST_SIGNATURE = 16;

/** Return whether a file begins as one of these content types does. Throws an error if it cannot be read. */
export async function isPicture(file, types) {
  const bytes = new Uint8Array(await file.slice(0, LONGEST_SIGNATURE).arrayBuffer());
  const beginning = String.fromCharCode(...bytes);
  return types.some((type) => SIGNATURES[type]?.test(beginning));
}
