"""The commands of the command line, a file a topic. They import what they need when they run, so that `--help` is instant."""
