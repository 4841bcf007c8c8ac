import { InputError } from '../errors.ts';

/** What the header of a WAV file says of its samples (Microsoft, Multimedia Programming Interface and Data Specifications 1.0). */
interface WavFormat {
  readonly codec: number;
  readonly channels: number;
  /** Bytes of a sample of all channels, or of a block of ADPCM. */
  readonly block: number;
  readonly bits: number;
  /** Of a block of ADPCM; 0 where the file leaves it to the size. */
  readonly blockSamples: number;
}

const MOST_CHANNELS = 64;
const MS_ADPCM = 2;
const IMA_ADPCM = 0x11;
const EXTENSIBLE = 0xfffe;

/**
 * Checks that the numbers of a header agree, before memory is taken by them: a decoder believes them. What is no WAV file passes.
 * @throws InputError naming the number
 */
export function checkWavFormat(bytes: Uint8Array, source: string): void {
  const format = readFormat(bytes);
  if (!format) return;
  const { codec, channels, block, bits, blockSamples } = format;
  const fault = (text: string) =>
    new InputError(
      `${source}: its header announces ${text}; write it anew, as with ffmpeg -i FILE sound.wav`,
    );
  if (channels < 1 || channels > MOST_CHANNELS)
    throw fault(`${channels} channels, where 1 to ${MOST_CHANNELS} can be`);
  if (codec !== MS_ADPCM && codec !== IMA_ADPCM) {
    if (bits === 0 || block !== (channels * bits) / 8)
      throw fault(`${block} bytes for ${channels} samples of ${bits} bits`);
    return;
  }
  // Each channel has its state at the beginning of a block; two samples are a byte from there on.
  const [state, given] = codec === MS_ADPCM ? [7, 2] : [4, 1];
  const most = given + (2 * (block - state * channels)) / channels;
  if (most < given || blockSamples > most)
    throw fault(`${blockSamples || 'some'} samples in blocks of ${block} bytes for ${channels} channels`);
}

/** Undefined where there is no whole format. */
function readFormat(bytes: Uint8Array): WavFormat | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 12; at + 24 <= view.byteLength; at += 8 + view.getUint32(at + 4, true)) {
    if (view.getUint32(at) !== FMT) continue;
    const tag = view.getUint16(at + 8, true);
    const isExtended = at + 28 <= view.byteLength && view.getUint16(at + 24, true) >= 2;
    return {
      codec: tag === EXTENSIBLE && at + 34 <= view.byteLength ? view.getUint16(at + 32, true) : tag,
      channels: view.getUint16(at + 10, true),
      block: view.getUint16(at + 20, true),
      bits: view.getUint16(at + 22, true),
      blockSamples: isExtended ? view.getUint16(at + 26, true) : 0,
    };
  }
  return undefined;
}

/** "fmt ", the first number first. */
const FMT = 0x666d7420;
