package explain

// Quantity returns an amount of a resource in the engine's units, by its name there, as users
// write it in Kubernetes.
func Quantity(name string, amount int64) string { return quantity(name, amount) }
