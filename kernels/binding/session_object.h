// The JavaScript class Session, and the jobs that open, run and free one.
#pragma once
#include <napi.h>

#include <memory>

#include "../engine/session.h"

namespace switchyard::binding {

// Made by openSession() only. JavaScript sees
//   threads: number    of its pool, perhaps fewer than were asked for
//   inputs, outputs: { name, type: number, shape: (number | string)[] }[]   without the bound inputs
//   run(feeds: External[], outputs: number[], fetches: (External | null)[], id):
//     Promise<{ results: (result | null)[], expertsCalls: number[] }>
//     feeds in the order of `inputs`; fetches[j] belongs to output outputs[j]; a result for each null fetch;
//     cancelRun(id) ends the run early
//   capture(feeds, outputs, fetches): Promise<{ run: External, expertsCalls: number[] }>    records a run for
//     Device.replay instead
//   routedTokens(): { layer: number, tokens: Float64Array, reads: Float64Array }[]    how many each router
//   has
//     sent to each expert over all runs, and in how many runs there were any
//   dispose(): Promise<void>    frees the session, off this thread, when its last run has ended
class SessionObject : public Napi::ObjectWrap<SessionObject> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit SessionObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value JsThreads(const Napi::CallbackInfo& info);
  Napi::Value JsInputs(const Napi::CallbackInfo& info);
  Napi::Value JsOutputs(const Napi::CallbackInfo& info);
  Napi::Value JsRun(const Napi::CallbackInfo& info);
  Napi::Value JsCapture(const Napi::CallbackInfo& info);
  Napi::Value JsRoutedTokens(const Napi::CallbackInfo& info);
  Napi::Value JsDispose(const Napi::CallbackInfo& info);
  const std::shared_ptr<ops::Session>& session(Napi::Env env) const;

  std::shared_ptr<ops::Session> session_;
};

// openSession(model: Uint8Array, store: WeightStore, threads, boundInputs: string[], boundHandles: number[],
// device: Device | null, deviceStore | null): Promise<Session>
Napi::Value OpenSession(const Napi::CallbackInfo& info);

}  // namespace switchyard::binding
