import { InputError } from '../errors.ts';

/** What the header of a WAV file says of its samples (Microsoft, Multimedia Programming Interface and Data Specifications 1.0). */
export interface WavFormat {
  readonly channels: number;
  /** Samples a second of each channel. */
  readonly rate: number;
  /** Bytes of a sample of all channels, or of a block of ADPCM. */
  readonly block: number;
  /** Samples of each channel in a block. */
  readonly blockSamples: number;
  /** The header's own description, by which samples are decoded. */
  readonly chunk: Uint8Array;
  /** The samples, to the end of the file where it ends before they do. */
  readonly data: Uint8Array;
}

const MOST_CHANNELS = 64;
/** Of what lies before the samples; every part takes a look. */
const MOST_CHUNKS = 10_000;
const MS_ADPCM = 2;
const IMA_ADPCM = 0x11;
const EXTENSIBLE = 0xfffe;
const EXTENSIBLE_SIZE = 40;
/** Where a part's contents begin. */
const CHUNK_HEADER = 8;

/**
 * Reads a header, and checks that its numbers agree before memory is taken by them: a decoder believes them.
 * @returns undefined where samples or their description are missing
 * @throws InputError naming the number, and for what is no WAV file
 */
export function readWavFormat(bytes: Uint8Array, source: string): WavFormat | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || view.getUint32(0) !== fourCC('RIFF') || view.getUint32(8) !== fourCC('WAVE'))
    throw new InputError(
      `${source} is no WAV file. Sound is read from WAV files; convert others, as with ffmpeg -i FILE sound.wav`,
    );
  let format: number | undefined;
  let at = 12;
  for (let chunks = 0; at + CHUNK_HEADER <= bytes.length; chunks++) {
    if (chunks === MOST_CHUNKS)
      throw new InputError(`${source}: more than ${MOST_CHUNKS} parts lie before its samples; it is damaged`);
    const id = view.getUint32(at);
    if (id === fourCC('fmt ')) format = at;
    if (id === fourCC('data')) break;
    at = nextChunk(view, at);
  }
  if (format === undefined || at + CHUNK_HEADER > bytes.length) return undefined;
  const size = view.getUint32(at + 4, true);
  // Who writes as sounds come does not know their length: 0 or all bits.
  const given = size === 0 || size === 0xffffffff ? Number.POSITIVE_INFINITY : size;
  const data = bytes.subarray(at + CHUNK_HEADER, Math.min(bytes.length, at + CHUNK_HEADER + given));
  return checked(view, format, data, source);
}

/** Parts begin at even places, as not all writers know. */
function nextChunk(view: DataView, at: number): number {
  const end = at + CHUNK_HEADER + view.getUint32(at + 4, true);
  if (end % 2 === 0 || end + 4 > view.byteLength) return end;
  return [fourCC('fmt '), fourCC('data')].includes(view.getUint32(end)) ? end : end + 1;
}

function checked(view: DataView, at: number, data: Uint8Array, source: string): WavFormat | undefined {
  const size = view.getUint32(at + 4, true);
  const end = at + CHUNK_HEADER + size;
  if (size < 16 || end > view.byteLength) return undefined;
  const tag = view.getUint16(at + 8, true);
  const channels = view.getUint16(at + 10, true);
  const rate = view.getUint32(at + 12, true);
  const block = view.getUint16(at + 20, true);
  const bits = view.getUint16(at + 22, true);
  const chunk = new Uint8Array(view.buffer, view.byteOffset + at, CHUNK_HEADER + size);
  if (tag === EXTENSIBLE && size < EXTENSIBLE_SIZE) return undefined;
  const codec = tag === EXTENSIBLE ? view.getUint16(at + 32, true) : tag;
  const fault = (text: string) =>
    new InputError(
      `${source}: its header announces ${text}; write it anew, as with ffmpeg -i FILE sound.wav`,
    );
  if (channels < 1 || channels > MOST_CHANNELS)
    throw fault(`${channels} channels, where 1 to ${MOST_CHANNELS} can be`);
  if (codec !== MS_ADPCM && codec !== IMA_ADPCM) {
    if (bits === 0 || block !== (channels * bits) / 8)
      throw fault(`${block} bytes for ${channels} samples of ${bits} bits`);
    return { channels, rate, block, blockSamples: 1, chunk, data };
  }
  // A file may leave the samples of a block to its size.
  const announced = size >= 20 && view.getUint16(at + 24, true) >= 2 ? view.getUint16(at + 26, true) : 0;
  // Each channel has its state at the beginning of a block; two samples are a byte from there on.
  const [state, given] = codec === MS_ADPCM ? [7, 2] : [4, 1];
  const most = given + (2 * (block - state * channels)) / channels;
  if (most < given || announced > most)
    throw fault(`${announced || 'some'} samples in blocks of ${block} bytes for ${channels} channels`);
  return { channels, rate, block, blockSamples: announced || Math.floor(most), chunk, data };
}

/** The four letters of a part's name as a number, the first first. */
function fourCC(name: string): number {
  return Buffer.from(name, 'latin1').readUInt32BE();
}
