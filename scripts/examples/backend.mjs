// An experts backend of one's own, in standard ONNX nodes: every token goes through every expert, and counts where it was chosen.
import { AutoModelForCausalLM, DEMO_MODEL, ExpertsInterface } from 'moe-switchyard';

ExpertsInterface.register('dense', {
  supports: ({ layout }) => layout === 'separate' || 'it reads experts that lie one by one',

  emit(graph, { hiddenStates, topKIndices, topKWeights, weights, context }) {
    const { hiddenSize, intermediateSize, numExperts, topK } = context;
    const multiply = (x, name, [rows, columns]) =>
      graph.op('MatMul', [x, graph.op('Transpose', [graph.value(name, [rows, columns])], { perm: [1, 0] })]);
    const ones = graph.float32(new Float32Array(topK).fill(1), [topK, 1]);
    let sum;
    for (let expert = 0; expert < numExperts; expert++) {
      const gate = multiply(hiddenStates, weights.gate[expert], [intermediateSize, hiddenSize]);
      const up = multiply(hiddenStates, weights.up[expert], [intermediateSize, hiddenSize]);
      const silu = graph.op('Mul', [gate, graph.op('Sigmoid', [gate])]);
      const output = multiply(graph.op('Mul', [silu, up]), weights.down[expert], [
        hiddenSize,
        intermediateSize,
      ]);
      const chosen = graph.op('Cast', [graph.op('Equal', [topKIndices, graph.int32([expert], [])])], {
        to: 1,
      });
      const weight = graph.op('MatMul', [graph.op('Mul', [chosen, topKWeights]), ones]);
      const part = graph.op('Mul', [output, weight]);
      sum = sum ? graph.op('Add', [sum, part]) : part;
    }
    return sum;
  },
});

const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL, { expertsImplementation: 'dense' });
for await (const text of model.stream({ prompt: 'In the beginning', maxNewTokens: 12, doSample: false }))
  process.stdout.write(text);
console.log(`\n${JSON.stringify(model.getExpertsImplementation())}`);
await model.dispose();
