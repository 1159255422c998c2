package gowasm

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sources is a package cut in three: what stays, what is dropped, and what is added.
type sources struct {
	fset             *token.FileSet
	text             map[string][]byte // of what stays
	kept, gone, ours map[string]*ast.File
}

func parsePackage(p listed, drop []string, ours map[string][]byte) (*sources, error) {
	s := &sources{
		fset: token.NewFileSet(), text: map[string][]byte{},
		kept: map[string]*ast.File{}, gone: map[string]*ast.File{}, ours: map[string]*ast.File{},
	}
	for _, name := range p.GoFiles {
		text, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(s.fset, name, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		if slices.Contains(drop, name) {
			s.gone[name] = f
		} else {
			s.kept[name], s.text[name] = f, text
		}
	}
	for name, text := range ours {
		f, err := parser.ParseFile(s.fset, name, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		s.ours[name] = f
	}
	return s, nil
}

// check finds what the dropped files declare, the others use, and ours lack: a new Go version's news. Methods of
// types that ours lack too are gone with them.
func (s *sources) check() error {
	have, types := map[string]bool{}, map[string]bool{"": true}
	for _, f := range s.ours {
		for _, name := range declared(f) {
			have[name.name] = true
			if name.receiver == "" {
				types[name.name] = true
			}
		}
	}
	used := map[string]bool{}
	for _, f := range s.kept {
		ast.Inspect(f, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				used[id.Name] = true
			}
			return true
		})
	}
	// A name that the others declare too is theirs; a method's may be, and is left to the compiler.
	for _, f := range s.kept {
		for _, name := range declared(f) {
			have[name.name] = true
		}
	}
	var missing []string
	for file, f := range s.gone {
		for _, name := range declared(f) {
			if types[name.receiver] && used[name.name] && !have[name.name] {
				missing = append(missing, fmt.Sprintf("%s of %s", name.name, file))
			}
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("uses what hachi does not know: %s", strings.Join(missing, ", "))
	}
	return nil
}

// declared are the names a file declares at its top.
func declared(f *ast.File) (list []function) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			list = append(list, function{receiver(d), d.Name.Name})
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					list = append(list, function{name: spec.Name.Name})
				case *ast.ValueSpec:
					for _, id := range spec.Names {
						list = append(list, function{name: id.Name})
					}
				}
			}
		}
	}
	return slices.DeleteFunc(list, func(f function) bool { return f.name == "_" || f.name == "init" })
}

// receiver is the name of a method's type.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) != 1 {
		return ""
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

// rename gives a function's declaration another name and leaves its callers with the old one. It returns the
// changed file.
func (s *sources) rename(f function, to string) (file string, text []byte, err error) {
	var at *ast.Ident
	for name, parsed := range s.kept {
		for _, d := range parsed.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Name.Name == f.name && receiver(d) == f.receiver {
				file, at = name, d.Name
			}
		}
	}
	if at == nil {
		return "", nil, fmt.Errorf("no function %s of %s", f.name, f.receiver)
	}
	i := s.fset.Position(at.Pos()).Offset
	text = s.text[file]
	return file, slices.Concat(text[:i], []byte(to), text[i+len(f.name):]), nil
}
