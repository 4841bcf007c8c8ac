/** Pictures of a message. */

/** Longest side that is sent, in pixels: models shrink larger ones. */
const LONGEST = 1536;

/**
 * A picture as a data URL, shrunk where it is large.
 * @param {Blob} file
 * @throws where the browser cannot read it
 */
export async function pictureUrl(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext('2d')?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.toDataURL(file.type === 'image/jpeg' ? 'image/jpeg' : 'image/png', 0.9);
}

/**
 * The pictures among what was pasted or dropped.
 * @param {DataTransfer | null} transfer
 */
export function picturesIn(transfer) {
  return [...(transfer?.files ?? [])].filter(({ type }) => type.startsWith('image/'));
}
