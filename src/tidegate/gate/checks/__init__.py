"""The checks that Tidegate brings along, one question each; others can be installed beside them as plug-ins."""
