import { ExpertsInterface } from '../../src/experts/registry.ts';
import { denseExperts } from '../conformance/dense-backend.ts';
import { describeExpertsBackend } from '../conformance/experts.ts';

ExpertsInterface.register('dense', denseExperts);
for (const name of ExpertsInterface.names()) describeExpertsBackend(name);
