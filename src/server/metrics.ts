import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { AnswerEnd } from './answer.ts';
import type { Gate } from './gate.ts';
import { VllmMetrics } from './vllm-metrics.ts';

/** Figures for Prometheus: names begin with `switchyard_`, and with `vllm:` where those are wanted, too. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #requests = this.#counter('requests_total', 'Requests that have been responded to', [
    'path',
    'status',
  ]);
  readonly #tokens = this.#counter('tokens_total', 'Tokens of prompts and answers', ['kind']);
  readonly #finishes = this.#counter('answers_total', 'Answers, by what ended them', ['finish']);
  readonly #firstToken = new Histogram({
    name: 'switchyard_time_to_first_token_seconds',
    help: 'From the start of an answer to its first text',
    buckets: [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100],
    registers: [this.#registry],
  });
  readonly #duration = new Histogram({
    name: 'switchyard_request_duration_seconds',
    help: 'From the request to its response, or to the first byte of a stream',
    labelNames: ['path'],
    buckets: [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300],
    registers: [this.#registry],
  });

  readonly #vllm: VllmMetrics | undefined;

  /** @param vllm the models' names, where vLLM's figures are wanted, too */
  constructor(gate: Gate, vllm?: readonly string[]) {
    this.#vllm = vllm && new VllmMetrics(this.#registry, gate, vllm);
    const gauge = (name: string, help: string, value: () => number) =>
      new Gauge({
        name: `switchyard_${name}`,
        help,
        registers: [this.#registry],
        collect() {
          this.set(value());
        },
      });
    gauge('requests_running', 'Requests that are being answered', () => gate.running);
    gauge('requests_waiting', 'Requests that wait for their turn', () => gate.waiting);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  /** @param path as routed, so that no client can make up names */
  responded(path: string, status: number, seconds: number): void {
    this.#requests.inc({ path, status: String(status) });
    this.#duration.observe({ path }, seconds);
  }

  /** An answer is complete. @param firstText seconds from its start, as `seconds` are */
  answered(model: string, end: AnswerEnd, firstText: number, seconds: number): void {
    this.#tokens.inc({ kind: 'prompt' }, end.usage.promptTokens);
    this.#tokens.inc({ kind: 'generated' }, end.usage.newTokens);
    this.#finishes.inc({ finish: end.finish });
    this.#firstToken.observe(firstText);
    this.#vllm?.answered(model, end, firstText, seconds);
  }

  #counter(name: string, help: string, labelNames: string[]) {
    return new Counter({ name: `switchyard_${name}`, help, labelNames, registers: [this.#registry] });
  }
}
