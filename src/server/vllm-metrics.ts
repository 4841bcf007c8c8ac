import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { AnswerEnd } from './answer.ts';
import type { Gate } from './gate.ts';

const SECONDS = [0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300];
const LABEL = 'model_name';

/**
 * The figures that gateways for vLLM look at, under its names (vllm/v1/metrics/loggers.py). What has no counterpart here, such as the share of
 * a fixed cache that is in use, is left out.
 */
export class VllmMetrics {
  readonly #prompt: Counter;
  readonly #generated: Counter;
  readonly #finished: Counter;
  readonly #firstToken: Histogram;
  readonly #perToken: Histogram;
  readonly #latency: Histogram;

  /** @param models whose requests the gate counts */
  constructor(registry: Registry, gate: Gate, models: readonly string[]) {
    const registers = [registry];
    const gauge = (name: string, help: string, value: () => number) =>
      new Gauge({
        ...{ name: `vllm:${name}`, help, registers, labelNames: [LABEL] },
        collect() {
          this.set({ [LABEL]: models.join(',') }, value());
        },
      });
    const counter = (name: string, help: string, ...labels: string[]) =>
      new Counter({ name: `vllm:${name}`, help, registers, labelNames: [LABEL, ...labels] });
    const histogram = (name: string, help: string) =>
      new Histogram({ name: `vllm:${name}`, help, registers, labelNames: [LABEL], buckets: SECONDS });
    gauge('num_requests_running', 'Requests that are being answered', () => gate.running);
    gauge('num_requests_waiting', 'Requests that wait for their turn', () => gate.waiting);
    this.#prompt = counter('prompt_tokens_total', 'Tokens of prompts');
    this.#generated = counter('generation_tokens_total', 'Tokens of answers');
    this.#finished = counter('request_success_total', 'Answers, by what ended them', 'finished_reason');
    this.#firstToken = histogram(
      'time_to_first_token_seconds',
      'From the start of an answer to its first text',
    );
    this.#perToken = histogram(
      'time_per_output_token_seconds',
      'Time of a token after the first, on average',
    );
    this.#latency = histogram('e2e_request_latency_seconds', 'From the start of an answer to its end');
  }

  /** An answer is complete. @param firstText seconds from its start, as `seconds` are */
  answered(model: string, { finish, usage }: AnswerEnd, firstText: number, seconds: number): void {
    const labels = { [LABEL]: model };
    this.#prompt.inc(labels, usage.promptTokens);
    this.#generated.inc(labels, usage.newTokens);
    this.#finished.inc({ ...labels, finished_reason: finish === 'length' ? 'length' : 'stop' });
    this.#firstToken.observe(labels, firstText);
    this.#latency.observe(labels, seconds);
    if (usage.newTokens > 1) this.#perToken.observe(labels, (seconds - firstText) / (usage.newTokens - 1));
  }
}
