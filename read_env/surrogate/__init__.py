"""Fast stand-in for the distillation process, fitted on recorded steps."""
