#include "kernels/dispatch.h"

namespace qora {

const KernelTable& kernel_table(Isa isa) {
    switch (isa) {
#define QORA_ISA(isa, unit, platform, base, features) \
    QORA_ON_##platform(case Isa::isa : return unit##_table();)
#include "core/isas.inc"
        default: return scalar_table();  // not of this platform: available_isas() has none of these
    }
}

}  // namespace qora
