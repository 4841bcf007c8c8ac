// What JavaScript is told of experts that are brought on demand.
#pragma once
#include <napi.h>

#include "../weights/residency.h"

namespace switchyard::binding {

// NativeResidency in src/runtime/binding.ts.
inline Napi::Object DescribeResidency(Napi::Env env, int64_t resident_bytes, const ResidencyCounts& counts) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("residentBytes", static_cast<double>(resident_bytes));
  object.Set("hits", static_cast<double>(counts.hits));
  object.Set("fetches", static_cast<double>(counts.fetches));
  object.Set("fetchedBytes", static_cast<double>(counts.bytes));
  object.Set("pinned", static_cast<double>(counts.pinned));
  object.Set("readAhead", static_cast<double>(counts.ahead));
  object.Set("readAheadWanted", static_cast<double>(counts.ahead_wanted));
  object.Set("pinnedHits", static_cast<double>(counts.pinned_hits));
  return object;
}

}  // namespace switchyard::binding
