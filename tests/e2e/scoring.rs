//! Measures what a picture shows, by the rules of tests/demo_model/SCORING.md: nothing here was trained. The
//! numbers of the steps are that page's.

const PALETTE: [(&str, [f64; 3]); 12] = [
    ("red", [220.0, 35.0, 35.0]),
    ("green", [40.0, 165.0, 60.0]),
    ("blue", [40.0, 70.0, 220.0]),
    ("yellow", [250.0, 225.0, 50.0]),
    ("orange", [245.0, 135.0, 25.0]),
    ("purple", [135.0, 45.0, 180.0]),
    ("pink", [250.0, 150.0, 195.0]),
    ("brown", [125.0, 75.0, 40.0]),
    ("black", [18.0, 18.0, 18.0]),
    ("white", [250.0, 250.0, 250.0]),
    ("gray", [135.0, 135.0, 135.0]),
    ("teal", [60.0, 205.0, 215.0]),
];

pub(crate) const SHAPES: [&str; 8] =
    ["circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring"];

type Point = (f64, f64);

/// A square picture.
pub(crate) struct Picture {
    pub(crate) side: usize,
    pub(crate) pixels: Vec<[u8; 3]>,
}

/// Columns left to right and rows top to bottom, the ends not included.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) right: usize,
    pub(crate) bottom: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Finding {
    pub(crate) background: &'static str,
    pub(crate) colour: Option<&'static str>,
    pub(crate) shape: Option<&'static str>,
    pub(crate) centre: Point,
    pub(crate) half_side: f64,
}

enum Outline {
    Disc { hole: f64 },
    Polygon(Vec<Point>),
}

fn outline(shape: &str) -> Outline {
    let polygon = |points: &[Point]| Outline::Polygon(points.to_vec());
    match shape {
        "circle" => Outline::Disc { hole: 0.0 },
        "ring" => Outline::Disc { hole: 0.56 },
        "square" => polygon(&[(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)]),
        "triangle" => polygon(&[(0.0, -0.95), (1.0, 0.8), (-1.0, 0.8)]),
        "diamond" => polygon(&[(0.0, -1.0), (0.72, 0.0), (0.0, 1.0), (-0.72, 0.0)]),
        "cross" => {
            let a = 0.32;
            polygon(&[
                (-a, -1.0),
                (a, -1.0),
                (a, -a),
                (1.0, -a),
                (1.0, a),
                (a, a),
                (a, 1.0),
                (-a, 1.0),
                (-a, a),
                (-1.0, a),
                (-1.0, -a),
                (-a, -a),
            ])
        }
        "star" => Outline::Polygon(
            (0..10)
                .map(|k| {
                    let q = if k % 2 == 0 { 1.0 } else { 0.42 };
                    let angle = f64::from(k) * std::f64::consts::PI / 5.0;
                    (q * angle.sin(), 0.06 - q * angle.cos())
                })
                .collect(),
        ),
        _ => Outline::Polygon(
            (0..48)
                .map(|k| {
                    let t = f64::from(k) * std::f64::consts::TAU / 48.0;
                    let y = 13.0 * t.cos()
                        - 5.0 * (2.0 * t).cos()
                        - 2.0 * (3.0 * t).cos()
                        - (4.0 * t).cos();
                    (t.sin().powi(3), -y / 16.5 - 0.08)
                })
                .collect(),
        ),
    }
}

impl Outline {
    pub(crate) fn inside(&self, u: f64, v: f64) -> bool {
        match self {
            Self::Disc { hole } => {
                let square = u * u + v * v;
                square <= 0.97 * 0.97 && square >= hole * hole
            }
            Self::Polygon(points) => {
                let edges = points.iter().zip(points.iter().cycle().skip(1));
                edges.fold(false, |inside, ((u0, v0), (u1, v1))| {
                    let crosses =
                        (*v0 > v) != (*v1 > v) && u < u0 + (v - v0) * (u1 - u0) / (v1 - v0);
                    inside != crosses
                })
            }
        }
    }

    /// left, top, right, bottom
    fn extent(&self) -> [f64; 4] {
        match self {
            Self::Disc { .. } => [-0.97, -0.97, 0.97, 0.97],
            Self::Polygon(points) => {
                points.iter().fold([f64::MAX, f64::MAX, f64::MIN, f64::MIN], |e, (u, v)| {
                    [e[0].min(*u), e[1].min(*v), e[2].max(*u), e[3].max(*v)]
                })
            }
        }
    }
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

fn name(colour: [f64; 3]) -> &'static str {
    let nearest =
        PALETTE.iter().min_by(|a, b| distance(a.1, colour).total_cmp(&distance(b.1, colour)));
    nearest.map_or("", |(name, _)| name)
}

fn median(colours: &[[u8; 3]]) -> [f64; 3] {
    [0, 1, 2].map(|channel| {
        let mut values: Vec<u8> = colours.iter().map(|colour| colour[channel]).collect();
        values.sort_unstable();
        let middle = values.len() / 2;
        if values.len() % 2 == 1 {
            f64::from(values[middle])
        } else {
            (f64::from(values[middle - 1]) + f64::from(values[middle])) / 2.0
        }
    })
}

impl Picture {
    pub(crate) fn whole(&self) -> Region {
        Region { left: 0, top: 0, right: self.side, bottom: self.side }
    }

    fn colour(&self, index: usize) -> [f64; 3] {
        self.pixels[index].map(f64::from)
    }

    /// Step 1.
    fn ground(&self) -> [f64; 3] {
        let (side, b) = (self.side, 2.max(self.side / 32));
        let rows = (0..b)
            .chain(side - b..side)
            .flat_map(|row| (0..side).map(move |column| row * side + column));
        let columns = (0..b)
            .chain(side - b..side)
            .flat_map(|column| (0..side).map(move |row| row * side + column));
        let border: Vec<[u8; 3]> = rows.chain(columns).map(|index| self.pixels[index]).collect();
        median(&border)
    }

    /// The largest 4-connected piece of the pixels in the region that fit.
    fn largest(&self, region: Region, fits: impl Fn([f64; 3]) -> bool) -> Vec<usize> {
        let side = self.side;
        let mut open: Vec<bool> = (0..side * side)
            .map(|i| {
                let (row, column) = (i / side, i % side);
                (region.left..region.right).contains(&column)
                    && (region.top..region.bottom).contains(&row)
                    && fits(self.colour(i))
            })
            .collect();
        let mut best = Vec::new();
        for start in 0..side * side {
            if !open[start] {
                continue;
            }
            open[start] = false;
            let (mut piece, mut stack) = (Vec::new(), vec![start]);
            while let Some(at) = stack.pop() {
                piece.push(at);
                for next in neighbours(at, side).into_iter().flatten() {
                    if std::mem::take(&mut open[next]) {
                        stack.push(next);
                    }
                }
            }
            if piece.len() > best.len() {
                best = piece;
            }
        }
        best
    }

    /// Step 3's peel: pixels all of whose four neighbours are in the piece.
    fn peeled(&self, piece: Vec<usize>) -> Vec<usize> {
        let mut member = vec![false; self.side * self.side];
        piece.iter().for_each(|&at| member[at] = true);
        let inner: Vec<usize> = piece
            .iter()
            .copied()
            .filter(|&at| {
                neighbours(at, self.side)
                    .into_iter()
                    .all(|next| next.is_some_and(|next| member[next]))
            })
            .collect();
        if inner.len() > 20 { inner } else { piece }
    }

    /// Steps 1 to 7.
    pub(crate) fn examine(&self, region: Region) -> Finding {
        let ground = self.ground();
        let mut finding = Finding { background: name(ground), ..Finding::default() };
        let rough = self.largest(region, |colour| distance(colour, ground) > 45.0);
        if rough.len() < 30 {
            return finding;
        }
        let core = self.peeled(self.peeled(rough));
        let ink = median(&core.iter().map(|&at| self.pixels[at]).collect::<Vec<_>>());
        finding.colour = Some(name(ink));
        let piece = self.largest(region, |colour| distance(colour, ink) < distance(colour, ground));
        let columns = piece.iter().map(|at| at % self.side);
        let rows = piece.iter().map(|at| at / self.side);
        let (Some(left), Some(right)) = (columns.clone().min(), columns.max().map(|c| c + 1))
        else {
            return finding;
        };
        let (Some(top), Some(bottom)) = (rows.clone().min(), rows.max().map(|r| r + 1)) else {
            return finding;
        };
        let [left, right, top, bottom] = [left, right, top, bottom].map(|edge| edge as f64);
        let side = self.side as f64;
        finding.centre = ((left + right) / 2.0 / side, (top + bottom) / 2.0 / side);
        finding.half_side = (right - left).max(bottom - top) / 2.0 / side;
        if (right - left).min(bottom - top) >= 6.0 {
            finding.shape = Some(self.likeliest(&piece, [left, top, right, bottom]));
        }
        finding
    }

    /// Step 6.
    fn likeliest(&self, piece: &[usize], [left, top, right, bottom]: [f64; 4]) -> &'static str {
        let mut member = vec![false; self.side * self.side];
        piece.iter().for_each(|&at| member[at] = true);
        let (w, h) = (right - left, bottom - top);
        let mut best = ("", f64::MIN);
        for shape in SHAPES {
            let outline = outline(shape);
            let [x0, y0, x1, y1] = outline.extent();
            let stretch = ((w / h) * (y1 - y0) / (x1 - x0)).ln().abs();
            for growth in [1.0, 1.1, 1.2] {
                let (mut both, mut either) = (0_u32, 0_u32);
                for (at, &in_piece) in member.iter().enumerate() {
                    let (px, py) = ((at % self.side) as f64 + 0.5, (at / self.side) as f64 + 0.5);
                    let u = ((px - (left + right) / 2.0) / (w * growth) + 0.5) * (x1 - x0) + x0;
                    let v = ((py - (top + bottom) / 2.0) / (h * growth) + 0.5) * (y1 - y0) + y0;
                    let drawn = outline.inside(u, v);
                    both += u32::from(in_piece && drawn);
                    either += u32::from(in_piece || drawn);
                }
                let likeness =
                    f64::from(both) / f64::from(either.max(1)) * (1.0 - 0.5 * stretch.min(1.0));
                if likeness > best.1 {
                    best = (shape, likeness);
                }
            }
        }
        best.0
    }
}

fn neighbours(at: usize, side: usize) -> [Option<usize>; 4] {
    let (row, column) = (at / side, at % side);
    [
        (row > 0).then(|| at - side),
        (row + 1 < side).then(|| at + side),
        (column > 0).then(|| at - 1),
        (column + 1 < side).then(|| at + 1),
    ]
}

/// The radius of an item of that shape whose half side was measured.
pub(crate) fn radius(shape: &str, half_side: f64) -> f64 {
    let [x0, y0, x1, y1] = outline(shape).extent();
    2.0 * half_side / (x1 - x0).max(y1 - y0)
}

/// A picture of one item, 4 × 4 samples a pixel, for proving the scorer.
fn drawn(side: usize, shape: &str, radius: f64, ink: [f64; 3], ground: [f64; 3]) -> Picture {
    let outline = outline(shape);
    let pixels = (0..side * side)
        .map(|at| {
            let share = (0..16)
                .filter(|sample| {
                    let x = (at % side) as f64 + (f64::from(sample % 4) + 0.5) / 4.0;
                    let y = (at / side) as f64 + (f64::from(sample / 4) + 0.5) / 4.0;
                    outline
                        .inside((x / side as f64 - 0.5) / radius, (y / side as f64 - 0.5) / radius)
                })
                .count() as f64
                / 16.0;
            [0, 1, 2].map(|c| (ink[c] * share + ground[c] * (1.0 - share)).round() as u8)
        })
        .collect();
    Picture { side, pixels }
}

#[test]
fn the_scorer_knows_every_shape_and_colour_that_it_draws() {
    for (index, shape) in SHAPES.iter().enumerate() {
        for (turn, radius) in [0.12, 0.22, 0.38].into_iter().enumerate() {
            let (ink, ground) = (PALETTE[(index + turn) % 12], PALETTE[(index + turn + 5) % 12]);
            let picture = drawn(128, shape, radius, ink.1, ground.1);
            let finding = picture.examine(picture.whole());
            assert_eq!(
                (finding.background, finding.colour, finding.shape),
                (ground.0, Some(ink.0), Some(*shape)),
                "{} {shape} on {} at {radius}",
                ink.0,
                ground.0
            );
        }
    }
}
