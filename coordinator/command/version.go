package command

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionInfo is what `understudy version -o json` prints.
type versionInfo struct {
	Version string `json:"version"`
	// Revision is the commit it was built from, if the build knew it; Modified
	// says that the work tree had changes.
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Built    string `json:"commitTime,omitempty"`
	// Engine is the version of yunikorn-core inside.
	Engine   string `json:"engine,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (c command) version() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program and of the engine in it",
		Args:  args(cobra.NoArgs),
	}
	format := outputFlag(cmd, "text", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		want, err := format()
		if err != nil {
			return err
		}
		if want == "json" {
			return printJSON(c.out, buildVersion())
		}
		v := buildVersion()
		fmt.Fprintf(c.out, "understudy %s\n", v.Version)
		if v.Revision != "" {
			modified := ""
			if v.Modified {
				modified = ", modified"
			}
			fmt.Fprintf(c.out, "commit %s%s\n", v.Revision, modified)
		}
		if v.Engine != "" {
			fmt.Fprintf(c.out, "yunikorn-core %s\n", v.Engine)
		}
		_, err = fmt.Fprintf(c.out, "%s %s\n", v.Go, v.Platform)
		return err
	}
	return cmd
}

func buildVersion() versionInfo {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return versionFrom(info)
}

func versionFrom(info *debug.BuildInfo) versionInfo {
	v := versionInfo{
		Version:  info.Main.Version,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		case "vcs.time":
			v.Built = s.Value
		}
	}
	for _, dep := range info.Deps {
		if dep.Path == "github.com/apache/yunikorn-core" {
			v.Engine = dep.Version
		}
	}
	return v
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
