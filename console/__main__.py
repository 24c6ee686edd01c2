"""`python -m console` is `openai-proxy`."""

import sys

from console.program import main

sys.exit(main())
