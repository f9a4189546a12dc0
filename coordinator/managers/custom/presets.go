package custom

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed presets/*.yaml
var presets embed.FS

// Presets returns the names of the definitions that are shipped, in order.
func Presets() []string {
	// It cannot fail for what is part of the binary.
	files, _ := presets.ReadDir("presets")
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	return names
}

// Preset returns the shipped definition of that name.
func Preset(name string) (Definition, error) {
	data, err := presets.ReadFile("presets/" + name + ".yaml")
	if err != nil {
		return Definition{}, fmt.Errorf("there is no preset %q, want one of %s", name, strings.Join(Presets(), ", "))
	}
	return Parse(data)
}
