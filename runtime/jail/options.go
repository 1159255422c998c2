package jail

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// mountOptions is what a list of OCI mount options asks for.
type mountOptions struct {
	// set holds for the mount itself and recursive for all beneath it too (MOUNT_ATTR_*).
	set, recursive uint64
	// atime is one of the access time modes; hasAtime tells relatime, which is 0, from none.
	atime    uint64
	hasAtime bool
	// rbind says that a bind takes along what is mounted below its source.
	bind, rbind bool
	// propagation is MS_PRIVATE, MS_SLAVE or MS_UNBINDABLE; propagateAll makes it recursive.
	propagation  uint64
	propagateAll bool
	// data are the options of the file system itself.
	data []string
}

var flagOptions = map[string]uint64{
	"ro":          unix.MOUNT_ATTR_RDONLY,
	"nosuid":      unix.MOUNT_ATTR_NOSUID,
	"nodev":       unix.MOUNT_ATTR_NODEV,
	"noexec":      unix.MOUNT_ATTR_NOEXEC,
	"nodiratime":  unix.MOUNT_ATTR_NODIRATIME,
	"nosymfollow": unix.MOUNT_ATTR_NOSYMFOLLOW,
}

// clearOptions undo an earlier option of the list. They lift nothing that the source of a bind has: a
// read-only source stays read-only, and nothing brings back devices or set-user-ID programs.
var clearOptions = map[string]uint64{
	"rw":        unix.MOUNT_ATTR_RDONLY,
	"suid":      unix.MOUNT_ATTR_NOSUID,
	"dev":       unix.MOUNT_ATTR_NODEV,
	"exec":      unix.MOUNT_ATTR_NOEXEC,
	"diratime":  unix.MOUNT_ATTR_NODIRATIME,
	"symfollow": unix.MOUNT_ATTR_NOSYMFOLLOW,
}

var atimeOptions = map[string]uint64{
	"relatime":    unix.MOUNT_ATTR_RELATIME,
	"norelatime":  unix.MOUNT_ATTR_STRICTATIME,
	"atime":       unix.MOUNT_ATTR_RELATIME,
	"noatime":     unix.MOUNT_ATTR_NOATIME,
	"strictatime": unix.MOUNT_ATTR_STRICTATIME,
}

// The guest cannot mount, so shared, which would carry its mounts out, is no more than slave.
var propagationOptions = map[string]uint64{
	"private":    unix.MS_PRIVATE,
	"slave":      unix.MS_SLAVE,
	"shared":     unix.MS_SLAVE,
	"unbindable": unix.MS_UNBINDABLE,
}

func parseOptions(list []string) (mountOptions, error) {
	o := mountOptions{propagation: unix.MS_PRIVATE, propagateAll: true}
	for _, opt := range list {
		if bit, ok := flagOptions[opt]; ok {
			o.set |= bit
		} else if bit, ok := clearOptions[opt]; ok {
			o.set &^= bit
		} else if mode, ok := atimeOptions[opt]; ok {
			o.atime, o.hasAtime = mode, true
		} else if p, ok := propagationOptions[opt]; ok {
			o.propagation, o.propagateAll = p, false
		} else if err := o.parseRecursive(opt); err != nil {
			return o, err
		}
	}
	return o, nil
}

// parseRecursive reads the options that start with r: rbind, rslave, and since Linux 5.12 rro and its kin.
func (o *mountOptions) parseRecursive(opt string) error {
	rest, hasR := strings.CutPrefix(opt, "r")
	switch {
	case opt == "bind":
		o.bind = true
	case opt == "rbind":
		o.bind, o.rbind = true, true
	case opt == "defaults" || opt == "":
	case opt == "idmap" || opt == "ridmap":
		return fmt.Errorf("option %s: id-mapped mounts are not supported", opt)
	case opt == "remount" || opt == "move" || opt == "tmpcopyup":
		return fmt.Errorf("option %s is not supported", opt)
	case hasR && flagOptions[rest] != 0:
		o.recursive |= flagOptions[rest]
	case hasR && clearOptions[rest] != 0:
		o.recursive &^= clearOptions[rest]
	case hasR && propagationOptions[rest] != 0:
		o.propagation, o.propagateAll = propagationOptions[rest], true
	default:
		o.data = append(o.data, opt)
	}
	return nil
}
