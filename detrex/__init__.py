"""Detection transformers whose scores rank well."""

import warnings

# fvcore, through detectron2, uses a function that torch deprecates: nothing a user can act on.
warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)
