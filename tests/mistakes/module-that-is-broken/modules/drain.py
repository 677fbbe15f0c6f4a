"""A module that cannot be imported."""

import no_such_package

SCHEMA = no_such_package.SCHEMA
