//! Pixels to PNG (W3C PNG, third edition), with the parameters as text: tEXt where Latin-1 holds them, else
//! iTXt, as Pillow does. The fast deflate: a slower one costs more CPU than the last step of a picture. It
//! burns a core for milliseconds, so callers keep it off async threads.

use png::{BitDepth, ColorType, Compression, Encoder};
use sdrest_proto::image::Rgb8Image;
use std::io::Cursor;
use thiserror::Error;

/// The keyword that A1111 and all that reads its pictures look for.
const KEYWORD: &str = "parameters";

/// Why a picture could not be written or read.
#[derive(Debug, Error)]
pub enum EncodeError {
    #[error("PNG could not be written: {0}")]
    Write(#[from] png::EncodingError),
    #[error("PNG could not be read: {0}")]
    Read(#[from] png::DecodingError),
}

/// The file of a picture. The same picture and text give the same bytes.
pub fn encode_png(image: &Rgb8Image, parameters: &str) -> Result<Vec<u8>, EncodeError> {
    let mut file = Vec::with_capacity(image.data().len() / 2);
    let mut encoder = Encoder::new(&mut file, image.width(), image.height());
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    if parameters.chars().all(|c| u32::from(c) <= 0xff) {
        encoder.add_text_chunk(KEYWORD.to_owned(), parameters.to_owned())?;
    } else {
        encoder.add_itxt_chunk(KEYWORD.to_owned(), parameters.to_owned())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.data())?;
    writer.finish()?;
    Ok(file)
}

/// The parameters in a file that this server wrote.
pub fn read_parameters(file: &[u8]) -> Result<Option<String>, EncodeError> {
    let reader = png::Decoder::new(Cursor::new(file)).read_info()?;
    let info = reader.info();
    if let Some(chunk) = info.uncompressed_latin1_text.iter().find(|chunk| chunk.keyword == KEYWORD)
    {
        return Ok(Some(chunk.text.clone()));
    }
    let chunk = info.utf8_text.iter().find(|chunk| chunk.keyword == KEYWORD);
    Ok(chunk.map(|chunk| chunk.get_text()).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Rgb8Image {
        let data = (0..64 * 48 * 3).map(|i| (i % 251) as u8).collect();
        Rgb8Image::new(64, 48, data).unwrap()
    }

    fn chunk_names(file: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        let mut at = 8;
        while at + 8 <= file.len() {
            let length = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
            names.push(String::from_utf8_lossy(&file[at + 4..at + 8]).into_owned());
            at += 12 + length;
        }
        names
    }

    #[test]
    fn the_pixels_and_the_text_come_back() {
        for text in ["a café\nSteps: 20", "赤い円\nSteps: 20"] {
            let file = encode_png(&picture(), text).unwrap();
            assert_eq!(read_parameters(&file).unwrap().as_deref(), Some(text));
            let mut reader = png::Decoder::new(Cursor::new(&file)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut pixels).unwrap();
            assert_eq!(pixels, picture().data());
        }
    }

    #[test]
    fn the_file_holds_these_chunks_and_no_other() {
        let latin = encode_png(&picture(), "é").unwrap();
        assert_eq!(chunk_names(&latin), ["IHDR", "tEXt", "IDAT", "IEND"]);
        let wide = encode_png(&picture(), "円").unwrap();
        assert_eq!(chunk_names(&wide), ["IHDR", "iTXt", "IDAT", "IEND"]);
        assert_eq!(latin, encode_png(&picture(), "é").unwrap());
    }
}
