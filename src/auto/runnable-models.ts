import { type Needs, needsOf } from '../fit/needs.ts';
import { PUBLISHED_MODELS, type PublishedModel, type PublishedWay, STORAGES } from '../fit/published.ts';
import { judge, type Resources, type Verdict } from '../fit/verdict.ts';
import { bytesOf, countWeights, roundedStorage, type WeightCounts } from '../fit/weight-counts.ts';
import type { Model } from '../models/architecture.ts';
import { parseScheme } from '../quantize/scheme.ts';
import { expectedWeights } from './expected-weights.ts';
import { findArchitecture } from './registry.ts';

/** A published model, and a way to run it. */
export interface RunnableModel extends PublishedWay, Verdict {
  /** What it is for, in a word or two. */
  readonly use: string;
  readonly needs: Needs;
  /** Bytes to fetch, and with rounding to write. */
  readonly diskBytes: number;
}

/** Tokens a second; nearly as fast as one reads. Below, an exact way gives way to a faster one. */
const READING_SPEED = 4;

/**
 * For each published model the most exact way in which it stays in memory and answers as fast as one reads; else the fastest that stays in
 * memory; else the smallest. Best first: those that are fast enough, those that fit, those that do not.
 *
 * @param disk bytes that are free for files
 */
export function runnableModels(resources: Resources, disk = Number.POSITIVE_INFINITY): RunnableModel[] {
  const chosen = PUBLISHED_MODELS.map((published) => {
    const { model, counts } = counted(published);
    const all = published.ways.map((way): RunnableModel => {
      const stored = STORAGES[way.format];
      const storage =
        way.quantization === undefined ? stored : roundedStorage(parseScheme(way.quantization), stored);
      const needs = needsOf(model, counts, storage, 'bfloat16');
      const fetched = bytesOf(counts.stored, stored);
      const diskBytes = fetched + (way.quantization === undefined ? 0 : needs.weights);
      return { ...way, use: published.use, needs, diskBytes, ...judge(needs, resources) };
    });
    return choose(all, disk);
  });
  const group = (model: RunnableModel) => (isUsable(model, disk) ? (isFast(model) ? 0 : 1) : 2);
  return chosen.sort((a, b) => group(a) - group(b));
}

interface Counted {
  readonly model: Model;
  readonly counts: WeightCounts;
}

const COUNTED = new Map<PublishedModel, Counted>();

/** A tenth of a second for a large one, and always the same. */
function counted(published: PublishedModel): Counted {
  const known = COUNTED.get(published);
  if (known) return known;
  const { config, use } = published;
  const model = findArchitecture(config, use).parse(config, use);
  const found = { model, counts: countWeights(expectedWeights(model), model.work) };
  COUNTED.set(published, found);
  return found;
}

/** Whether a way stays in memory, and its files find room. */
export function isUsable({ fits, diskBytes }: RunnableModel, disk: number): boolean {
  return fits && diskBytes <= disk;
}

const isFast = ({ tokensPerSecond = READING_SPEED }: RunnableModel) => tokensPerSecond >= READING_SPEED;

function choose(ways: readonly RunnableModel[], disk: number): RunnableModel {
  const usable = ways.filter((way) => isUsable(way, disk));
  const fastest = (a: RunnableModel, b: RunnableModel) => (b.needs.token < a.needs.token ? b : a);
  if (usable.length > 0) return usable.find(isFast) ?? usable.reduce(fastest);
  const size = ({ needs, diskBytes }: RunnableModel) => needs.weights + diskBytes;
  return ways.reduce((a, b) => (size(b) < size(a) ? b : a));
}
