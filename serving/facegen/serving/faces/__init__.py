"""What is done with faces: families, pipelines, and the services of facegen.v1."""
