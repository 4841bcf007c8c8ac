/** A WAV file. @param bits of a sample: 16 for integers, 32 and 64 for floats */
export function wav(channels: readonly Float32Array[], samplingRate: number, bits: 16 | 32 | 64): Buffer {
  const frames = channels[0]?.length ?? 0;
  const block = (channels.length * bits) / 8;
  const header = Buffer.alloc(44);
  header.write('RIFF', 0, 'latin1');
  header.writeUInt32LE(36 + frames * block, 4);
  header.write('WAVEfmt ', 8, 'latin1');
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(bits === 16 ? 1 : 3, 20);
  header.writeUInt16LE(channels.length, 22);
  header.writeUInt32LE(samplingRate, 24);
  header.writeUInt32LE(samplingRate * block, 28);
  header.writeUInt16LE(block, 32);
  header.writeUInt16LE(bits, 34);
  header.write('data', 36, 'latin1');
  header.writeUInt32LE(frames * block, 40);
  const data = Buffer.alloc(frames * block);
  for (let i = 0; i < frames; i++)
    for (const [c, channel] of channels.entries()) {
      const at = i * block + (c * bits) / 8;
      const sample = channel[i] as number;
      if (bits === 32) data.writeFloatLE(sample, at);
      else if (bits === 64) data.writeDoubleLE(sample, at);
      else data.writeInt16LE(Math.round(32767 * sample), at);
    }
  return Buffer.concat([header, data]);
}
