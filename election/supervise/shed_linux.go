package supervise

import (
	"bufio"
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// shed gives back memory that was needed only to get here. Four fifths of what is
// resident then are pages of the executable: the replica's libraries, which the
// supervisor shares the file with, initialize themselves before main. Pages that
// are wanted again come back from the page cache, where the child's are anyway.
func shed() {
	debug.FreeOSMemory()
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range cleanFiles(maps) {
		// A hint that the kernel may refuse.
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, m.from, m.to-m.from, syscall.MADV_DONTNEED)
	}
}

// span is a range of addresses.
type span struct{ from, to uintptr }

// cleanFiles returns where files are mapped that nobody can have changed: not
// writable, and no page of them is a private copy (as it would be where the
// dynamic linker has been). Only there is dropping a page without effect.
func cleanFiles(smaps []byte) []span {
	var found []span
	var at span
	var file bool
	for lines := bufio.NewScanner(bytes.NewReader(smaps)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) == 0:
		case !strings.HasSuffix(f[0], ":"): // the head of a mapping
			from, to, _ := strings.Cut(f[0], "-")
			lo, err := strconv.ParseUint(from, 16, 64)
			hi, err2 := strconv.ParseUint(to, 16, 64)
			at = span{uintptr(lo), uintptr(hi)}
			file = err == nil && err2 == nil && len(f) >= 6 && f[5][0] == '/' && !strings.Contains(f[1], "w")
		case f[0] == "Anonymous:" && file && len(f) > 1 && f[1] == "0":
			found = append(found, at)
		}
	}
	return found
}
