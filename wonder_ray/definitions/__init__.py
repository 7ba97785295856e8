"""What a workflow is: models, builder, expressions and validation."""
