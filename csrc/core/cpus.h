// How many CPUs this process may keep busy: the default number of threads.
#pragma once

#include <string>

namespace qora {

// CPUs of the process' affinity mask, on Apple's chips those of the fast cluster, but no more than its cgroup
// may use, rounded up: with a quota of 1.5 CPUs two threads do more than one. At least 1.
int usable_cpus();

// The quota of this process' Linux cgroup and of the groups above it, in CPUs; infinity without one, or on
// another system. Versions 1 and 2 are read. `root` stands before every absolute path, for tests.
double quota_cpus(const std::string& root = "");

}  // namespace qora
