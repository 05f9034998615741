#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_validate
short_description: Check a host's variables against the specifications of all roles
description:
  - Runs on the controller. Refuses unknown variable names (BP111) and values that do not fit (BP110).
options:
  roles_path:
    description: Folder of the roles.
    type: path
    required: true
author: The Bedplate developers
"""
