"""Corrections of what readings mean: standing rules, which stored readings follow, too."""
