"""Detection transformers whose scores rank well."""

import sys
import warnings

# fvcore, through detectron2, uses a function that torch deprecates: nothing a user can act on.
warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)
sys.warnoptions.append("ignore:`torch.jit.script`:FutureWarning")  # in started processes too
