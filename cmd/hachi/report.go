package main

import (
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"

	"github.com/hachi-run/hachi/shim/image/wasmbin"
)

// write writes the report for people.
func (r *report) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if r.Image != nil {
		r.Image.write(w)
	}
	for k, m := range r.Modules {
		if k > 0 || r.Image != nil {
			fmt.Fprintln(w)
		}
		m.write(w)
	}
	return w.Flush()
}

// row prints nothing for an empty value. What images and modules say of themselves may hold terminal
// escapes, so it is made harmless.
func row(w io.Writer, key, value string) {
	if value != "" {
		fmt.Fprintf(w, "%s\t%s\n", key, harmless(value))
	}
}

func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

func (i *imageReport) write(w io.Writer) {
	row(w, "Image", i.Name)
	row(w, "Digest", i.Digest)
	row(w, "Layout", i.Judgement.Layout)
	row(w, "Problem", i.Judgement.Problem)
	for _, m := range i.Manifests {
		fmt.Fprintln(w)
		row(w, "Manifest", m.Digest)
		row(w, "  Platform", m.Platform)
		row(w, "  Entrypoint", words(m.Config.Entrypoint))
		row(w, "  Cmd", words(m.Config.Cmd))
		row(w, "  Env", strings.Join(m.Config.Env, " "))
		row(w, "  Workdir", m.Config.WorkingDir)
		row(w, "  Ports", strings.Join(keys(m.Config.ExposedPorts), " "))
		for _, l := range m.Layers {
			row(w, "  Layer", fmt.Sprintf("%s  %s  %s  %s", l.MediaType, units.BytesSize(float64(l.Size)), short(l.Digest), l.Title))
		}
	}
}

func (m *moduleReport) write(w io.Writer) {
	row(w, "Module", m.Name)
	row(w, "Digest", m.Digest)
	row(w, "Problem", m.Problem)
	s := m.Module
	if s == nil {
		return
	}
	row(w, "Size", units.BytesSize(float64(s.Size)))
	wasi := s.WASI
	if wasi == "" {
		wasi = "none"
	}
	row(w, "WASI", wasi)
	for _, memory := range s.Memories {
		row(w, "Memory", memoryText(memory))
	}
	if s.Start {
		row(w, "Start function", "yes")
	}
	row(w, "Functions", fmt.Sprint(s.Functions))
	for _, host := range s.Hosts() {
		var names []string
		for _, i := range s.Imports {
			if i.Module == host && !slices.Contains(names, i.Name) { // Go imports some names several times
				names = append(names, i.Name)
			}
		}
		row(w, "Imports", fmt.Sprintf("%s: %s", host, list(names)))
	}
	var names []string
	for _, e := range s.Exports {
		names = append(names, e.Name)
	}
	row(w, "Exports", list(names))
	for _, p := range s.Producers {
		row(w, "Producer", strings.TrimSpace(p.Name+" "+p.Version)+" ("+p.Field+")")
	}
}

func memoryText(m wasmbin.Memory) string {
	const page = 64 << 10
	text := units.BytesSize(float64(m.Min) * page)
	if m.Max > 0 {
		text += " to " + units.BytesSize(float64(m.Max)*page)
	}
	if m.Shared {
		text += ", shared"
	}
	if m.Imported {
		text += ", imported"
	}
	return text
}

// list shortens what would fill the screen; --json has all.
func list(names []string) string {
	const most = 60
	if len(names) > most {
		return strings.Join(names[:most], " ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, " ")
}

func words(list []string) string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		if s == "" || strings.ContainsAny(s, " \t\n\"'") {
			s = fmt.Sprintf("%q", s)
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func keys(m map[string]struct{}) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func short(digest string) string {
	if len(digest) > 19 {
		return digest[:19]
	}
	return digest
}
