package conf

import (
	"fmt"
	"path"
	"slices"
)

// DropIn is the file that a containerd 2 gets, beside the main file.
func DropIn(main string) string { return path.Join(path.Dir(main), "conf.d", "hachi.toml") }

// dropInPattern is what the main file imports. A pattern may match nothing: a file that is lost keeps containerd from
// starting only when it is imported by name.
func dropInPattern(main string) string {
	return path.Join(path.Dir(main), "conf.d", "hachi*.toml")
}

func (t *Tree) addDropIn(r Runtime) ([]Change, error) {
	main := t.files[0]
	own := &file{name: DropIn(main.name)}
	for _, f := range t.files {
		if f.name == own.name {
			own = f
		}
	}
	if own.exists && len(own.base) > 0 {
		return nil, fmt.Errorf("add runtime %s: %s exists, and not by hachi node install (move it away)", r.Handler, own.name)
	}
	text, err := t.importing(own.name)
	if err != nil {
		return nil, fmt.Errorf("add import to %s: %w", main.name, err)
	}
	// The drop-in first: between two writes containerd would start with either.
	out := own.change(block("version = 3\n\n" + r.table(plugin3)))
	out = append(out, main.change(text)...)
	return append(out, t.others(own.name, main.name)...), nil
}

// importing is the main file's text with an import of name, if that takes one.
func (t *Tree) importing(name string) ([]byte, error) {
	main := t.files[0]
	for _, f := range t.files {
		var base file
		if err := unmarshal(f.base, &base); err != nil {
			return nil, err
		}
		base.name = f.name
		if base.imports(name) {
			return main.base, nil
		}
	}
	pattern := dropInPattern(main.name)
	if len(main.base) == 0 {
		return block("version = 3\nimports = [\"" + pattern + "\"]\n"), nil
	}
	return addImport(main.base, pattern)
}

// others takes away what was added to other files, by another version of this program or under another containerd.
func (t *Tree) others(names ...string) []Change {
	return slices.DeleteFunc(t.Remove(), func(c Change) bool { return slices.Contains(names, c.Name) })
}

// addBlock is for containerd 1.
func (t *Tree) addBlock(r Runtime) ([]Change, error) {
	to := t.files[0]
	if len(to.base) > 0 && to.content.Version != 2 {
		return nil, fmt.Errorf("add runtime %s: %s has version %d, and a containerd 1 reads this chart's section only from version 2 (convert it: containerd config dump writes version 2)", r.Handler, to.name, to.content.Version)
	}
	var cri file
	for _, f := range t.files {
		// Without our part, or the place would depend on whether it has been added.
		var base file
		if err := unmarshal(f.base, &base); err != nil {
			return nil, fmt.Errorf("add runtime %s: %s: %w", r.Handler, f.name, err)
		}
		if _, ok := base.content.Plugins[plugin2]; ok {
			to, cri = f, base
		}
	}
	added := r.table(plugin2)
	// One runtime in a file makes containerd 1 forget its built-in one.
	_, hasRunc := cri.at(plugin2, "containerd", "runtimes", "runc")
	name, _ := cri.at(plugin2, "containerd", "default_runtime_name")
	if def, _ := name.(string); !hasRunc && (def == "" || def == "runc") {
		added += "[plugins.\"" + plugin2 + "\".containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n"
	}
	if len(to.base) == 0 {
		return append(to.change(block("version = 2\n\n"+added)), t.others(to.name)...), nil
	}
	text := appendBlock(to.base, added)
	if err := unmarshal(text, new(file)); err != nil {
		return nil, fmt.Errorf("add runtime %s to %s: %w (its runtimes may be an inline table; write them as [plugins.…] tables)", r.Handler, to.name, err)
	}
	return append(to.change(text), t.others(to.name)...), nil
}
