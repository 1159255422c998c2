package rewrite

import "testing"

func TestTablesGrowWithinBounds(t *testing.T) {
	const most = "\x80\x80\x40" // 1 << 20
	for name, c := range map[string]struct{ is, want string }{
		"none":            {"\x00", "\x00"},
		"no maximum":      {"\x01\x70\x00\x00", "\x01\x70\x01\x00" + most},
		"small maximum":   {"\x01\x70\x01\x02\x05", "\x01\x70\x01\x02\x05"},
		"large maximum":   {"\x01\x6f\x01\x00\xff\xff\xff\xff\x0f", "\x01\x6f\x01\x00" + most},
		"bad maximum":     {"\x01\x70\x01\x05\x02", "\x01\x70\x01\x05\x02"},
		"large minimum":   {"\x01\x70\x00\x80\x80\x40", "\x01\x70\x01\x80\x80\x40\x80\x80\x80\x01"},
		"two":             {"\x02\x70\x00\x01\x6f\x00\x00", "\x02\x70\x01\x01\x81\x80\x20\x6f\x01\x00\x80\x80\x20"},
		"with its values": {"\x01\x40\x00\x63\x70\x00\x01\xd0\x70\x0b", "\x01\x40\x00\x63\x70\x01\x01\x81\x80\x40\xd0\x70\x0b"},
	} {
		m := parsed(t, header+section(secTable, c.is))
		if got := string(m.section(secTable).Body); got != c.want {
			t.Errorf("%s: % x became % x, want % x", name, c.is, got, c.want)
		}
		if again := parsed(t, string(assemble(m.Sections))); string(again.section(secTable).Body) != c.want {
			t.Errorf("%s: a second time gave % x", name, again.section(secTable).Body)
		}
	}
}
