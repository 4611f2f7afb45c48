"""The 133 categories of COCO panoptic 2017, for test images, which have no panoptic JSON."""
from __future__ import annotations

from adaptis.types import Category, Taxonomy

# id, thing or stuff, red, green, blue, name; in the order of the annotation files.
_TABLE = """
1 thing 220 20 60 person
2 thing 119 11 32 bicycle
3 thing 0 0 142 car
4 thing 0 0 230 motorcycle
5 thing 106 0 228 airplane
6 thing 0 60 100 bus
7 thing 0 80 100 train
8 thing 0 0 70 truck
9 thing 0 0 192 boat
10 thing 250 170 30 traffic light
11 thing 100 170 30 fire hydrant
13 thing 220 220 0 stop sign
14 thing 175 116 175 parking meter
15 thing 250 0 30 bench
16 thing 165 42 42 bird
17 thing 255 77 255 cat
18 thing 0 226 252 dog
19 thing 182 182 255 horse
20 thing 0 82 0 sheep
21 thing 120 166 157 cow
22 thing 110 76 0 elephant
23 thing 174 57 255 bear
24 thing 199 100 0 zebra
25 thing 72 0 118 giraffe
27 thing 255 179 240 backpack
28 thing 0 125 92 umbrella
31 thing 209 0 151 handbag
32 thing 188 208 182 tie
33 thing 0 220 176 suitcase
34 thing 255 99 164 frisbee
35 thing 92 0 73 skis
36 thing 133 129 255 snowboard
37 thing 78 180 255 sports ball
38 thing 0 228 0 kite
39 thing 174 255 243 baseball bat
40 thing 45 89 255 baseball glove
41 thing 134 134 103 skateboard
42 thing 145 148 174 surfboard
43 thing 255 208 186 tennis racket
44 thing 197 226 255 bottle
46 thing 171 134 1 wine glass
47 thing 109 63 54 cup
48 thing 207 138 255 fork
49 thing 151 0 95 knife
50 thing 9 80 61 spoon
51 thing 84 105 51 bowl
52 thing 74 65 105 banana
53 thing 166 196 102 apple
54 thing 208 195 210 sandwich
55 thing 255 109 65 orange
56 thing 0 143 149 broccoli
57 thing 179 0 194 carrot
58 thing 209 99 106 hot dog
59 thing 5 121 0 pizza
60 thing 227 255 205 donut
61 thing 147 186 208 cake
62 thing 153 69 1 chair
63 thing 3 95 161 couch
64 thing 163 255 0 potted plant
65 thing 119 0 170 bed
67 thing 0 182 199 dining table
70 thing 0 165 120 toilet
72 thing 183 130 88 tv
73 thing 95 32 0 laptop
74 thing 130 114 135 mouse
75 thing 110 129 133 remote
76 thing 166 74 118 keyboard
77 thing 219 142 185 cell phone
78 thing 79 210 114 microwave
79 thing 178 90 62 oven
80 thing 65 70 15 toaster
81 thing 127 167 115 sink
82 thing 59 105 106 refrigerator
84 thing 142 108 45 book
85 thing 196 172 0 clock
86 thing 95 54 80 vase
87 thing 128 76 255 scissors
88 thing 201 57 1 teddy bear
89 thing 246 0 122 hair drier
90 thing 191 162 208 toothbrush
92 stuff 255 255 128 banner
93 stuff 147 211 203 blanket
95 stuff 150 100 100 bridge
100 stuff 168 171 172 cardboard
107 stuff 146 112 198 counter
109 stuff 210 170 100 curtain
112 stuff 92 136 89 door-stuff
118 stuff 218 88 184 floor-wood
119 stuff 241 129 0 flower
122 stuff 217 17 255 fruit
125 stuff 124 74 181 gravel
128 stuff 70 70 70 house
130 stuff 255 228 255 light
133 stuff 154 208 0 mirror-stuff
138 stuff 193 0 92 net
141 stuff 76 91 113 pillow
144 stuff 255 180 195 platform
145 stuff 106 154 176 playingfield
147 stuff 230 150 140 railroad
148 stuff 60 143 255 river
149 stuff 128 64 128 road
151 stuff 92 82 55 roof
154 stuff 254 212 124 sand
155 stuff 73 77 174 sea
156 stuff 255 160 98 shelf
159 stuff 255 255 255 snow
161 stuff 104 84 109 stairs
166 stuff 169 164 131 tent
168 stuff 225 199 255 towel
171 stuff 137 54 74 wall-brick
175 stuff 135 158 223 wall-stone
176 stuff 7 246 231 wall-tile
177 stuff 107 255 200 wall-wood
178 stuff 58 41 149 water-other
180 stuff 183 121 142 window-blind
181 stuff 255 73 97 window-other
184 stuff 107 142 35 tree-merged
185 stuff 190 153 153 fence-merged
186 stuff 146 139 141 ceiling-merged
187 stuff 70 130 180 sky-other-merged
188 stuff 134 199 156 cabinet-merged
189 stuff 209 226 140 table-merged
190 stuff 96 36 108 floor-other-merged
191 stuff 96 96 96 pavement-merged
192 stuff 64 170 64 mountain-merged
193 stuff 152 251 152 grass-merged
194 stuff 208 229 228 dirt-merged
195 stuff 206 186 171 paper-merged
196 stuff 152 161 64 food-other-merged
197 stuff 116 112 0 building-other-merged
198 stuff 0 114 143 rock-merged
199 stuff 102 102 156 wall-other-merged
200 stuff 250 141 255 rug-merged
"""


def _category(line: str) -> Category:
    number, kind, red, green, blue, name = line.split(maxsplit=5)
    return Category(int(number), name, kind == 'thing', (int(red), int(green), int(blue)))


COCO_TAXONOMY = Taxonomy([_category(line) for line in _TABLE.strip().splitlines()])
