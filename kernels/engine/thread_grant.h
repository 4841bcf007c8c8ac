// How many threads a session may have.
#pragma once

namespace switchyard::ops {

// ONNX Runtime's thread pool ends the process, or waits for ever, where a thread cannot be started. This
// starts as many as a session of `wanted` threads (the calling one included) would, and some to spare for
// whoever comes next, ends them again, and returns how many of the wanted ones there may be. Others may take
// them in between: sessions are to be opened one at a time.
int GrantThreads(int wanted);

}  // namespace switchyard::ops
