package leadgridtest

// An order is a list of rows that pages can be cut from without walking it: rows are only ever added at the
// end, gone ones leave a hole, and every block of positions counts its rows by class (what can be filtered
// by: a dossier's type and status, a contact's pool and kinds). A page skips whole blocks by their counts.

const blockSize = 512

// slot is where a row lives: the same for all its versions.
type slot[R any] struct {
	id     string
	row    *R // the version now; nil once it is gone
	class  int
	at     [2]int // its positions in the orders by creation and by last change
	hash   uint64 // its place in the shuffled order
	links  []*link
	notes  []note
	number int // how many rows were stored before it
}

type order[R any] struct {
	which   int // index into slot.at
	classes int
	rows    []*slot[R]
	counts  []int32 // classes+1 for each block, the last one the sum
	live    int
}

// filter says which rows a list wants: those of the classes, and of them those that match.
type filter[R any] struct {
	classes []int // nil: all
	match   func(*slot[R]) bool
}

func (o *order[R]) block(position int) []int32 {
	width := o.classes + 1
	start := position / blockSize * width
	return o.counts[start : start+width]
}

func (o *order[R]) count(position, class int, by int32) {
	block := o.block(position)
	block[class] += by
	block[o.classes] += by
	o.live += int(by)
}

func (o *order[R]) add(s *slot[R]) {
	position := len(o.rows)
	if position%blockSize == 0 {
		o.counts = append(o.counts, make([]int32, o.classes+1)...)
	}
	o.rows = append(o.rows, s)
	s.at[o.which] = position
	o.count(position, s.class, 1)
}

func (o *order[R]) remove(s *slot[R]) {
	position := s.at[o.which]
	o.rows[position] = nil
	o.count(position, s.class, -1)
	if len(o.rows) > 2*o.live+2*blockSize {
		o.compact()
	}
}

// compact closes the holes, so that a row edited a million times does not cost a million places.
func (o *order[R]) compact() {
	rows := o.rows
	o.rows, o.counts, o.live = make([]*slot[R], 0, o.live+o.live/4), nil, 0
	for _, s := range rows {
		if s != nil {
			o.add(s)
		}
	}
}

// wanted is how many rows of a block the classes select.
func (o *order[R]) wanted(block int, classes []int) int {
	counts := o.block(block * blockSize)
	if classes == nil {
		return int(counts[o.classes])
	}
	var n int32
	for _, class := range classes {
		n += counts[class]
	}
	return int(n)
}

// total counts the rows a filter selects.
func (o *order[R]) total(f filter[R]) int {
	n := 0
	if f.match != nil {
		o.walk(f, 0, false, func(*slot[R]) bool { n++; return true })
		return n
	}
	for block := range o.blocks() {
		n += o.wanted(block, f.classes)
	}
	return n
}

func (o *order[R]) blocks() int { return (len(o.rows) + blockSize - 1) / blockSize }

// walk calls visit for the selected rows after the first skip of them, until it returns false.
func (o *order[R]) walk(f filter[R], skip int, backwards bool, visit func(*slot[R]) bool) {
	selected := classSet(f.classes)
	blocks := o.blocks()
	for i := range blocks {
		block := i
		if backwards {
			block = blocks - 1 - i
		}
		n := o.wanted(block, f.classes)
		if n == 0 {
			continue
		}
		if f.match == nil && n <= skip {
			skip -= n
			continue
		}
		start, end := block*blockSize, min((block+1)*blockSize, len(o.rows))
		for j := range end - start {
			position := start + j
			if backwards {
				position = end - 1 - j
			}
			s := o.rows[position]
			if s == nil || !selected.has(s.class) || f.match != nil && !f.match(s) {
				continue
			}
			if skip > 0 {
				skip--
				continue
			}
			if !visit(s) {
				return
			}
		}
	}
}

// set of class numbers below 128; nil holds all.
type set []bool

func classSet(classes []int) set {
	if classes == nil {
		return nil
	}
	s := make(set, 128)
	for _, class := range classes {
		s[class] = true
	}
	return s
}

func (s set) has(class int) bool { return s == nil || s[class] }
