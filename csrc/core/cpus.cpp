#include "core/cpus.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#endif

namespace qora {
namespace {

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

bool contains(const std::string& list, const std::string& name) {
    std::istringstream names(list);
    for (std::string each; std::getline(names, each, ',');)
        if (each == name) return true;
    return false;
}

// Of "quota period" in microseconds; "max" and -1 stand for no quota.
double cpus_of(const std::string& quota, const std::string& period) {
    const double allowed = std::strtod(quota.c_str(), nullptr), of = std::strtod(period.c_str(), nullptr);
    return allowed > 0 && of > 0 ? allowed / of : kUnlimited;
}

std::string first_word(const std::string& path) {
    std::ifstream file(path);
    std::string word;
    file >> word;
    return word;
}

double quota_of_group(const std::string& folder, bool version2) {
    if (!version2)
        return cpus_of(first_word(folder + "/cpu.cfs_quota_us"), first_word(folder + "/cpu.cfs_period_us"));
    std::ifstream file(folder + "/cpu.max");
    std::string quota, period;
    file >> quota >> period;
    return cpus_of(quota, period);
}

// A mounted hierarchy that may limit CPU time: the group that is seen at its mount point, and that point.
struct Hierarchy {
    bool version2;
    std::string root, mount_point;
};

// Reads a line of /proc/self/mountinfo: "id parent device root mount-point options [tags] - type source
// options".
bool parse_mount(const std::string& line, Hierarchy& found) {
    const size_t separator = line.find(" - ");
    if (separator == std::string::npos) return false;
    std::istringstream place(line.substr(0, separator)), kind(line.substr(separator + 3));
    std::string skipped, type, source, options;
    place >> skipped >> skipped >> skipped >> found.root >> found.mount_point;
    kind >> type >> source >> options;
    found.version2 = type == "cgroup2";
    return found.version2 || (type == "cgroup" && contains(options, "cpu"));
}

// The path of this process' group in a hierarchy, from lines "id:controllers:path".
std::string own_group(const std::string& cgroup_file, bool version2) {
    std::ifstream lines(cgroup_file);
    for (std::string line; std::getline(lines, line);) {
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        if (version2 ? controllers.empty() : contains(controllers, "cpu")) return line.substr(second + 1);
    }
    return "/";
}

double quota_in(const Hierarchy& hierarchy, const std::string& root) {
    std::string group = own_group(root + "/proc/self/cgroup", hierarchy.version2);
    if (hierarchy.root != "/" && group.compare(0, hierarchy.root.size(), hierarchy.root) == 0)
        group.erase(0, hierarchy.root.size());
    // A path that leads out of what is mounted, or is not there, gives no quota: then the mount point does.
    double least = kUnlimited;
    for (;;) {
        while (!group.empty() && group.back() == '/') group.pop_back();
        least = std::min(least, quota_of_group(root + hierarchy.mount_point + group, hierarchy.version2));
        if (group.empty()) return least;
        group.erase(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
    }
}

int cpus_of_affinity() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#elif defined(__APPLE__)
    // Threads that wait for a slow core at the end of each op cost more than the slow cores add.
    int fast = 0;
    size_t size = sizeof fast;
    if (sysctlbyname("hw.perflevel0.logicalcpu", &fast, &size, nullptr, 0) == 0 && fast > 0) return fast;
#elif defined(_WIN32)
    // The mask is of one group of up to 64 processors; it is 0 where the process runs in several.
    DWORD_PTR process = 0, system = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &process, &system) && process != 0) {
        int count = 0;
        for (; process != 0; process &= process - 1) ++count;
        return count;
    }
    return static_cast<int>(GetActiveProcessorCount(ALL_PROCESSOR_GROUPS));
#endif
    return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

double quota_cpus(const std::string& root) {
    std::ifstream mounts(root + "/proc/self/mountinfo");
    double least = kUnlimited;
    Hierarchy hierarchy;
    for (std::string line; std::getline(mounts, line);)
        if (parse_mount(line, hierarchy)) least = std::min(least, quota_in(hierarchy, root));
    return least;
}

int usable_cpus() {
    const double cpus = std::min<double>(cpus_of_affinity(), std::ceil(quota_cpus()));
    return std::max(1, static_cast<int>(cpus));
}

}  // namespace qora
