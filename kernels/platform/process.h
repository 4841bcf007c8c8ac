// What belongs to the process as a whole.
#pragma once

namespace switchyard::platform {

// Sets a variable of the environment, for libraries of this process that look at it.
void SetEnvironment(const char* name, const char* value);

// Runs `handler` when the process exits, before the static destructors of libraries that are open now. On
// Windows never: there all other threads have been ended by then, so that nothing can be waited for or
// disturbed.
void AtExit(void (*handler)());

}  // namespace switchyard::platform
