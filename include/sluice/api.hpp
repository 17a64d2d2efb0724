// Marks what the shared library exports; everything else is hidden.
#pragma once

#define SLUICE_API [[gnu::visibility("default")]]
