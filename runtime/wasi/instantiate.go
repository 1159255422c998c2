package wasi

import (
	"context"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// The import modules this package provides.
const (
	// ModuleName is preview1's.
	ModuleName = "wasi_snapshot_preview1"
	// UnstableName is that of snapshot 0, which toolchains of 2019 and 2020 built for.
	UnstableName = "wasi_unstable"
)

// function is a host function: it reads its parameters from the stack and returns an errno.
type function func(s *System, stack []uint64) errno

// variant is one shape of a host function. Its signature has a letter per parameter, i for i32 and I for
// i64; the result is an errno as i32, or nothing if the signature ends in "!".
type variant struct {
	signature string
	call      function
}

// Instantiate provides the functions that guest imports from wasi_snapshot_preview1 and wasi_unstable, each in the
// shape that the guest's import has: the names of WasmEdge's socket functions exist in two. The system
// then serves this one guest, and the runtime takes no second system.
func (s *System) Instantiate(ctx context.Context, rt wazero.Runtime, guest wazero.CompiledModule) error {
	for _, module := range []string{ModuleName, UnstableName} {
		if err := s.instantiate(ctx, rt, guest, module); err != nil {
			return fmt.Errorf("instantiate wasi: %w", err)
		}
	}
	return nil
}

func (s *System) instantiate(ctx context.Context, rt wazero.Runtime, guest wazero.CompiledModule, provided string) error {
	b := rt.NewHostModuleBuilder(provided)
	done := map[string]string{}
	for _, f := range guest.ImportedFunctions() {
		module, name, ok := f.Import()
		if !ok || module != provided {
			continue
		}
		shape := shapeOf(f)
		if before, ok := done[name]; ok {
			if before != shape {
				return fmt.Errorf("import %s.%s: has two types, %s and %s", module, name, before, shape)
			}
			continue
		}
		done[name] = shape
		call, err := find(module, name, shape)
		if err != nil {
			return fmt.Errorf("import %s.%s: %w", module, name, err)
		}
		b.NewFunctionBuilder().WithGoModuleFunction(s.bind(call, strings.HasSuffix(shape, "!")), f.ParamTypes(), f.ResultTypes()).
			WithName(name).Export(name)
	}
	if len(done) == 0 {
		return nil
	}
	_, err := b.Instantiate(ctx)
	return err
}

// bind makes a host function for wazero.
func (s *System) bind(call function, noResult bool) api.GoModuleFunc {
	if noResult {
		return func(_ context.Context, m api.Module, stack []uint64) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.enter(m)
			call(s, stack)
		}
	}
	return func(_ context.Context, m api.Module, stack []uint64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.enter(m)
		stack[0] = uint64(call(s, stack))
	}
}

// find picks the variant of a function that fits an import's shape.
func find(module, name, shape string) (function, error) {
	var variants []variant
	if module == UnstableName {
		variants = unstable[name]
	}
	if variants == nil {
		variants = functions[name]
	}
	if variants == nil {
		if plain, ok := strings.CutSuffix(name, "_v2"); ok {
			variants = functions[plain]
		}
	}
	if variants == nil {
		return nil, fmt.Errorf("not provided (preview1 and WasmEdge's socket functions are)")
	}
	have := make([]string, 0, len(variants))
	for _, v := range variants {
		if v.signature == shape {
			return v.call, nil
		}
		have = append(have, v.signature)
	}
	return nil, fmt.Errorf("has type (%s), not (%s)", shape, strings.Join(have, ") or ("))
}

func shapeOf(f api.FunctionDefinition) string {
	var b strings.Builder
	for _, t := range f.ParamTypes() {
		switch t {
		case api.ValueTypeI32:
			b.WriteByte('i')
		case api.ValueTypeI64:
			b.WriteByte('I')
		default:
			b.WriteString(api.ValueTypeName(t))
		}
	}
	switch results := f.ResultTypes(); {
	case len(results) == 0:
		b.WriteByte('!')
	case len(results) != 1 || results[0] != api.ValueTypeI32:
		b.WriteString("?")
	}
	return b.String()
}

// functions are all that is provided, by name.
var functions = map[string][]variant{
	"args_get":                {{"ii", (*System).argsGet}},
	"args_sizes_get":          {{"ii", (*System).argsSizesGet}},
	"environ_get":             {{"ii", (*System).environGet}},
	"environ_sizes_get":       {{"ii", (*System).environSizesGet}},
	"clock_res_get":           {{"ii", (*System).clockResGet}},
	"clock_time_get":          {{"iIi", (*System).clockTimeGet}},
	"fd_advise":               {{"iIIi", (*System).fdAdvise}},
	"fd_allocate":             {{"iII", (*System).fdAllocate}},
	"fd_close":                {{"i", (*System).fdClose}},
	"fd_datasync":             {{"i", (*System).fdDatasync}},
	"fd_fdstat_get":           {{"ii", (*System).fdFdstatGet}},
	"fd_fdstat_set_flags":     {{"ii", (*System).fdFdstatSetFlags}},
	"fd_fdstat_set_rights":    {{"iII", (*System).fdFdstatSetRights}},
	"fd_filestat_get":         {{"ii", (*System).fdFilestatGet}},
	"fd_filestat_set_size":    {{"iI", (*System).fdFilestatSetSize}},
	"fd_filestat_set_times":   {{"iIIi", (*System).fdFilestatSetTimes}},
	"fd_pread":                {{"iiiIi", (*System).fdPread}},
	"fd_prestat_get":          {{"ii", (*System).fdPrestatGet}},
	"fd_prestat_dir_name":     {{"iii", (*System).fdPrestatDirName}},
	"fd_pwrite":               {{"iiiIi", (*System).fdPwrite}},
	"fd_read":                 {{"iiii", (*System).fdRead}},
	"fd_readdir":              {{"iiiIi", (*System).fdReaddir}},
	"fd_renumber":             {{"ii", (*System).fdRenumber}},
	"fd_seek":                 {{"iIii", (*System).fdSeek}},
	"fd_sync":                 {{"i", (*System).fdSync}},
	"fd_tell":                 {{"ii", (*System).fdTell}},
	"fd_write":                {{"iiii", (*System).fdWrite}},
	"path_create_directory":   {{"iii", (*System).pathCreateDirectory}},
	"path_filestat_get":       {{"iiiii", (*System).pathFilestatGet}},
	"path_filestat_set_times": {{"iiiiIIi", (*System).pathFilestatSetTimes}},
	"path_link":               {{"iiiiiii", (*System).pathLink}},
	"path_open":               {{"iiiiiIIii", (*System).pathOpen}},
	"path_readlink":           {{"iiiiii", (*System).pathReadlink}},
	"path_remove_directory":   {{"iii", (*System).pathRemoveDirectory}},
	"path_rename":             {{"iiiiii", (*System).pathRename}},
	"path_symlink":            {{"iiiii", (*System).pathSymlink}},
	"path_unlink_file":        {{"iii", (*System).pathUnlinkFile}},
	"poll_oneoff":             {{"iiii", (*System).pollOneoff}},
	"proc_exit":               {{"i!", (*System).procExit}},
	"proc_raise":              {{"i", (*System).procRaise}},
	"random_get":              {{"ii", (*System).randomGet}},
	"sched_yield":             {{"", (*System).schedYield}},
	"sock_recv":               {{"iiiiii", (*System).sockRecv}},
	"sock_send":               {{"iiiii", (*System).sockSend}},
	"sock_shutdown":           {{"ii", (*System).sockShutdown}},
	"sock_accept":             {{"iii", (*System).sockAccept}, {"ii", (*System).sockAcceptV1}},

	// WasmEdge's extension; a name with _v2 behind it is the same function.
	"sock_open":         {{"iii", (*System).sockOpen}},
	"sock_bind":         {{"iii", (*System).sockBind}},
	"sock_listen":       {{"ii", (*System).sockListen}},
	"sock_connect":      {{"iii", (*System).sockConnect}},
	"sock_send_to":      {{"iiiiiii", (*System).sockSendTo}},
	"sock_recv_from":    {{"iiiiiii", (*System).sockRecvFromV1}, {"iiiiiiii", (*System).sockRecvFromV2}},
	"sock_getsockopt":   {{"iiiii", (*System).sockGetsockopt}},
	"sock_setsockopt":   {{"iiiii", (*System).sockSetsockopt}},
	"sock_getlocaladdr": {{"iiii", (*System).sockGetlocaladdrV1}, {"iii", (*System).sockGetlocaladdrV2}},
	"sock_getpeeraddr":  {{"iiii", (*System).sockGetpeeraddrV1}, {"iii", (*System).sockGetpeeraddrV2}},
	"sock_getaddrinfo":  {{"iiiiiiii", (*System).sockGetaddrinfo}},
}
